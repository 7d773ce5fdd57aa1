"""Clothing Co-Parsing: street photographs with 58 kinds of clothes, hair and skin."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.datasets.photos.label_maps import LabelMapSet, class_meaning, pair_files
from training.datasets.photos.names import clean_name
from training.datasets.photos.photo import PhotoError, missing, one_split

TREE = """\
{root}/                             (as published)
    photos/*.jpg
    annotations/pixel-level/*.mat
    label_list.mat
or
{root}/
    photos/*.jpg
    labels/*.png                    (0 null, else a line of label_list.txt, the first being 0)
    label_list.txt
"""


def open_clothing(root: Path, split: str) -> LabelMapSet:
    """Open all images with pixel-level labels; see `open_photos`."""
    one_split("Clothing Co-Parsing", split)
    photos = root / "photos"
    for labels, listed, kind in (
        (root / "labels", root / "label_list.txt", LabelMapSet),
        (root / "annotations/pixel-level", root / "label_list.mat", ClothingMat),
    ):
        if photos.is_dir() and labels.is_dir() and listed.is_file():
            files = pair_files(photos, labels, ending=".png" if kind is LabelMapSet else ".mat")
            names = _names(listed)
            cleaned = [name for name in map(clean_name, names) if name]
            return kind("clothing", files, class_meaning(names, none=(names.index("null"),)), cleaned)
    raise missing("Clothing Co-Parsing", root, TREE)


def _names(path: Path) -> list[str]:
    if path.suffix == ".txt":
        names = path.read_text(encoding="utf-8").split("\n")
        names = [name.strip() for name in names if name.strip()]
    else:
        names = [str(np.squeeze(cell).item()) for cell in _read_mat(path, "label_list").ravel()]
    if "null" not in names:
        raise PhotoError(f"{path} has no class null among its {len(names)}: it is another data set's list")
    return names


def _read_mat(path: Path, key: str) -> np.ndarray:
    from scipy.io import loadmat

    try:
        return loadmat(path)[key]
    except FileNotFoundError:
        raise PhotoError(f"{path} is missing: copy the data set again") from None
    except Exception as error:  # scipy raises whatever a broken file leads it to
        raise PhotoError(f"cannot read {key} from {path} ({error}): copy the file again") from None


class ClothingMat(LabelMapSet):
    """The published label files, which are MATLAB's."""

    def read_labels(self, path: Path) -> np.ndarray:
        labels = _read_mat(path, "groundtruth")
        if labels.ndim != 2:
            raise PhotoError(f"labels {path} have the shape {labels.shape}: expected (H, W)")
        return labels.astype(np.uint8)
