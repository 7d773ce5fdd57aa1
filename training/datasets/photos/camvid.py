"""CamVid: street images with 11 classes, in the 12-class layout that SegNet made usual."""

from __future__ import annotations

from pathlib import Path

from training.datasets.photos.label_maps import LabelMapSet, class_meaning, pair_files
from training.datasets.photos.names import clean_name
from training.datasets.photos.photo import UNLABELLED, missing, one_split

NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
SPLITS = ("train", "val", "test")
TREE = """\
{root}/
    train/*.png         (or *.jpg; val and test like train)
    trainannot/*.png    (0 sky to 10 bicyclist, 11 void)
"""


def open_camvid(root: Path, split: str) -> LabelMapSet:
    """Open a split; see `open_photos`."""
    one_split("CamVid", split, SPLITS)
    images, labels = root / split, root / f"{split}annot"
    if not images.is_dir() or not labels.is_dir():
        raise missing(f"CamVid ({split})", root, TREE)
    meaning = class_meaning(NAMES, void=(11, UNLABELLED))
    return LabelMapSet("camvid", pair_files(images, labels), meaning, [clean_name(name) for name in NAMES])
