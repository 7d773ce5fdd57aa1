"""Pascal VOC 2012, with SBD's additional masks where they are there."""

from __future__ import annotations

from pathlib import Path

from training.datasets.photos.label_maps import LabelMapSet, class_meaning, pair_files
from training.datasets.photos.names import clean_name
from training.datasets.photos.photo import UNLABELLED, missing, one_split

NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
TREE = """\
{root}/                           (or a folder above it, with VOCdevkit/VOC2012)
    JPEGImages/*.jpg
    SegmentationClass/*.png       (or SegmentationClassAug/*.png, with SBD's masks)
    ImageSets/Segmentation/train.txt, val.txt, trainval.txt     (or train_aug.txt; without lists: every label image)
"""
SPLITS = ("train", "val", "trainval")


def open_voc(root: Path, split: str) -> LabelMapSet:
    """Open a split; see `open_photos`."""
    one_split("VOC", split, SPLITS)
    for base in (root, root / "VOCdevkit/VOC2012", root / "VOC2012"):
        images, lists = base / "JPEGImages", base / "ImageSets/Segmentation"
        for folder, name in (("SegmentationClassAug", f"{split}_aug"), ("SegmentationClass", split)):
            labels, names = base / folder, lists / f"{name}.txt"
            if not images.is_dir() or not labels.is_dir() or (lists.is_dir() and not names.is_file()):
                continue
            keys = names.read_text(encoding="utf-8").split() if names.is_file() else None
            # VOC's 0 is none of the 20 classes, and 255 the void outline.
            meaning = class_meaning(NAMES, first=1, none=(0,), void=(UNLABELLED,))
            return LabelMapSet("voc", pair_files(images, labels, keys), meaning, [clean_name(name) for name in NAMES])
    raise missing(f"VOC ({split})", root, TREE)
