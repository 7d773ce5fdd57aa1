"""COCO: instances of 80 classes, and captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.datasets.coco_masks import instance_mask
from training.datasets.photos.names import true_names
from training.datasets.photos.photo import (
    UNLABELLED,
    Photo,
    PhotoError,
    PhotoSet,
    check_size,
    missing,
    one_split,
    read_image,
)

TREE = """\
{root}/
    train2017/*.jpg                                (or images/train2017/*.jpg; val2017 like train2017)
    annotations/instances_train2017.json
    annotations/captions_train2017.json            (may be left out)
"""


def open_coco(root: Path, split: str) -> Coco:
    """Open a split of 2017; see `open_photos`."""
    one_split("COCO", split, ("train", "val"))
    instances = root / f"annotations/instances_{split}2017.json"
    captions = root / f"annotations/captions_{split}2017.json"
    for images in (root / f"{split}2017", root / f"images/{split}2017"):
        if images.is_dir() and instances.is_file():
            return Coco(images, instances, captions if captions.is_file() else None)
    raise missing(f"COCO ({split})", root, TREE)


class Coco(PhotoSet):
    """Images with instances; pixels of no instance are none of the 80 classes, those of crowds are unlabelled."""

    def __init__(self, images: Path, instances: Path, captions: Path | None):
        """Read the instances file, and the captions file where there is one."""
        self.name, self._images, self._path = "coco", images, instances
        try:
            content = json.loads(instances.read_text(encoding="utf-8"))
            self._names = {row["id"]: true_names(row["name"]) for row in content["categories"]}
            files = {row["id"]: row["file_name"] for row in content["images"]}
            self._sizes = {row["id"]: (row["height"], row["width"]) for row in content["images"]}
            self._instances: dict[int, list[dict]] = {number: [] for number in files}
            for row in content["annotations"]:
                self._instances[row["image_id"]].append(
                    {key: row[key] for key in ("area", "category_id", "segmentation")}
                    | {"iscrowd": row.get("iscrowd", 0)}
                )
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise PhotoError(f"cannot read {instances} as COCO instances ({type(error).__name__}: {error})") from None
        unnamed = [number for number, names in self._names.items() if not names]
        if unnamed:
            raise PhotoError(f"{instances}: category {unnamed[0]} has a name that cannot be asked for")
        self.exhaustive = tuple(dict.fromkeys(names[0] for names in self._names.values()))
        self._captions = _read_captions(captions) if captions else {}
        self._numbers = sorted(files)
        self._files = [files[number] for number in self._numbers]
        self.keys = [Path(name).stem for name in self._files]

    def __getitem__(self, index: int) -> Photo:
        number, path = self._numbers[index], self._images / self._files[index]
        image = read_image(path)
        regions, index_map = self._draw(number, self._sizes[number])
        check_size(image, index_map, path, self._path)
        return Photo(image, regions, index_map, captions=self._captions.get(number, ()))

    def _draw(self, number: int, size: tuple[int, int]) -> tuple[tuple[tuple[str, ...], ...], np.ndarray]:
        """Draw instances (H,W), large ones first, so that what is small stays visible; crowds lie under all."""
        drawn = np.zeros(size, np.uint8)
        regions: list[tuple[str, ...]] = [()]
        for row in sorted(self._instances[number], key=lambda row: (not row["iscrowd"], -row["area"])):
            try:
                names, mask = self._names[row["category_id"]], instance_mask(row["segmentation"], size)
            except (KeyError, ValueError, TypeError) as error:
                raise PhotoError(f"{self._path}: an instance of image {number} cannot be drawn ({error})") from None
            if row["iscrowd"]:
                drawn[mask] = UNLABELLED
                continue
            if names not in regions:
                regions.append(names)
            drawn[mask] = regions.index(names)
        present = [place for place in np.flatnonzero(np.bincount(drawn.ravel())).tolist() if place != UNLABELLED]
        table = np.full(UNLABELLED + 1, UNLABELLED, np.uint8)
        table[present] = range(len(present))
        return tuple(regions[place] for place in present), table[drawn]


def _read_captions(path: Path) -> dict[int, tuple[str, ...]]:
    try:
        found: dict[int, list[str]] = {}
        for row in json.loads(path.read_text(encoding="utf-8"))["annotations"]:
            found.setdefault(row["image_id"], []).append(" ".join(row["caption"].split()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise PhotoError(f"cannot read {path} as COCO captions ({type(error).__name__}: {error})") from None
    return {number: tuple(captions) for number, captions in found.items()}
