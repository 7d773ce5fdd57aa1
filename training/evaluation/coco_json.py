"""Truth from a COCO instances file: polygons and run lengths drawn into one map of classes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from training.datasets.coco_masks import instance_mask
from training.evaluation.samples import EvaluationSample


def instance_samples(path: Path, images: Path, classes: tuple[str, ...]) -> list[EvaluationSample]:
    """List the images of an instances file, by id, with background 0 and class i as i+1.

    Images without an instance belong to the data set: all of them is background. Raise ValueError for a file that is
    no instances file, and for a category whose name is not in `classes`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        categories = {row["id"]: row["name"] for row in content["categories"]}
        rows = sorted(content["images"], key=lambda row: row["id"])
        by_image: dict[int, list[dict]] = {row["id"]: [] for row in rows}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read {path} as COCO instances ({type(error).__name__}: {error})") from None
    unknown = sorted(set(categories.values()) - set(classes))
    if unknown:
        raise ValueError(f"{path} has the category {unknown[0]!r}: expected COCO's {len(classes)} categories")
    index = {number: classes.index(name) + 1 for number, name in categories.items()}
    return [
        EvaluationSample(
            Path(row["file_name"]).stem,
            images / row["file_name"],
            partial(draw_instances, by_image[row["id"]], index, (row["height"], row["width"])),
        )
        for row in rows
    ]


def draw_instances(annotations: list[dict], index: dict[int, int], size: tuple[int, int]) -> np.ndarray:
    """Draw instances (H,W) uint8, large ones first, so that what is small stays visible on what is large.

    index: class of each category id. Crowds are drawn like single things: they are the same class.
    """
    truth = np.zeros(size, np.uint8)
    for annotation in sorted(annotations, key=lambda row: -row["area"]):
        truth[instance_mask(annotation["segmentation"], size)] = index[annotation["category_id"]]
    return truth
