"""The data sets that the field compares on, and how each is counted.

Sources: the class lists and splits of mmsegmentation; background as a constant channel and the 448-pixel windows of TCL
(arXiv 2212.00785); COCO-Object from COCO-Stuff's maps as GroupViT (arXiv 2202.11094) made it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluation.classes import ClassList, read_classes
from training.evaluation.layouts import Folders, Instances, Tree
from training.evaluation.metrics import IGNORE
from training.evaluation.samples import LabelCodes


@dataclass(frozen=True)
class Protocol:
    """How one data set is counted.

    title: for people. classes: stem of the class list. tree: where it lies. split: the reported one; tune_split: the
    one that thresholds may be tuned on. images: in the reported split, None where any copy will do. background: True
    where truth has a class 0 of its own, which gets a constant score. mode: "slide", or "whole" for the sets that no
    paper compares on with windows.
    """

    name: str
    title: str
    classes: str
    tree: Tree
    split: str
    tune_split: str | None
    images: int | None
    background: bool = False
    mode: str = "slide"

    def class_list(self) -> ClassList:
        return read_classes(self.classes)

    def labels(self) -> tuple[str, ...]:
        """Name the classes in the order of the truth, background included."""
        names = self.class_list().names
        return ("background", *names) if self.background else names


_COCO_THINGS, _COCO_STUFF = 80, 171
# COCO-Stuff's maps hold category ids minus one; these were given out and never used.
_COCO_HOLES = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_COCO_VALUES = [value for value in range(182) if value not in _COCO_HOLES]

_VOC_TREE = """\
{{root}}/            (or the folder above it, with {inside})
    JPEGImages/*.jpg
    {labels}/*.png
    ImageSets/{sets}/{{split}}.txt
"""
_COCO_TREE = """\
{{root}}/
    images/{{split}}/*.jpg
    annotations/{{split}}/{labels}
or
{{root}}/
    {{split}}/*.jpg
    stuffthingmaps/{{split}}/*.png      (COCO-Stuff's own maps)
"""


def _voc(codes: LabelCodes) -> Tree:
    lists = Folders("JPEGImages", "SegmentationClass", codes, names="ImageSets/Segmentation/{split}.txt")
    sbd = Folders("JPEGImages", "SegmentationClassAug", codes, names="ImageSets/Segmentation/{split}_aug.txt")
    return Tree(
        layouts=(lists, sbd),
        bare=(Folders("JPEGImages", "SegmentationClass", codes),),
        inside=("VOCdevkit/VOC2012", "VOC2012"),
        splits=("val", "train"),
        expected=_VOC_TREE.format(inside="VOCdevkit/VOC2012", labels="SegmentationClass", sets="Segmentation")
        + "                      (or, with SBD's masks, SegmentationClassAug and {split}_aug.txt)\n",
    )


def _context(codes: LabelCodes) -> Tree:
    names = "ImageSets/SegmentationContext/{split}.txt"
    return Tree(
        layouts=(Folders("JPEGImages", "SegmentationClassContext", codes, names=names),),
        inside=("VOCdevkit/VOC2010", "VOC2010"),
        splits=("val", "train"),
        expected=_VOC_TREE.format(
            inside="VOCdevkit/VOC2010", labels="SegmentationClassContext", sets="SegmentationContext"
        ),
    )


def _stuff_maps(codes: LabelCodes) -> tuple[Folders, ...]:
    return (
        Folders("images/{split}", "annotations/{split}", codes, without="TrainIds.png"),
        Folders("{split}", "stuffthingmaps/{split}", codes),
        Folders("images/{split}", "stuffthingmaps/{split}", codes),
    )


def _coco_object() -> Tree:
    table = np.full(256, -1, np.int16)
    table[_COCO_VALUES] = [i + 1 if i < _COCO_THINGS else 0 for i in range(_COCO_STUFF)]
    table[IGNORE] = IGNORE
    names = read_classes("coco_object").names
    converted = LabelCodes.of(_COCO_THINGS + 1)
    instances = "annotations/instances_{split}.json"
    return Tree(
        layouts=(
            Folders("images/{split}", "annotations/{split}", converted, label="_instanceTrainIds.png"),
            *_stuff_maps(LabelCodes(table)),
            Instances("{split}", instances, names),
            Instances("images/{split}", instances, names),
        ),
        splits=("val2017", "train2017"),
        expected=_COCO_TREE.format(labels="*_instanceTrainIds.png")
        + "or\n{root}/\n    {split}/*.jpg\n    annotations/instances_{split}.json\n",
    )


def _coco_stuff() -> Tree:
    table = np.full(256, -1, np.int16)
    table[_COCO_VALUES] = range(_COCO_STUFF)
    table[IGNORE] = IGNORE
    converted = LabelCodes.of(_COCO_STUFF)
    return Tree(
        layouts=(
            Folders("images/{split}", "annotations/{split}", converted, label="_labelTrainIds.png"),
            *_stuff_maps(LabelCodes(table)),
        ),
        splits=("val2017", "train2017"),
        expected=_COCO_TREE.format(labels="*_labelTrainIds.png"),
    )


def _cityscapes() -> Tree:
    images = Folders(
        "leftImg8bit/{split}",
        "gtFine/{split}",
        LabelCodes.of(19),
        image="_leftImg8bit.png",
        label="_gtFine_labelTrainIds.png",
        deep=True,
    )
    return Tree(
        layouts=(images,),
        splits=("val", "train"),
        expected="""\
{root}/
    leftImg8bit/{split}/<city>/*_leftImg8bit.png
    gtFine/{split}/<city>/*_gtFine_labelTrainIds.png
        (made from Cityscapes' download by `csCreateTrainIdLabelImgs` of the package cityscapesscripts)
""",
    )


def _ade20k() -> Tree:
    codes = LabelCodes.of(150, first=1, ignored=(0, IGNORE))
    return Tree(
        layouts=(Folders("images/{split}", "annotations/{split}", codes),),
        bare=(Folders("images", "annotations", codes),),
        inside=("ADEChallengeData2016",),
        splits=("validation", "training"),
        expected="""\
{root}/            (or the folder above it, with ADEChallengeData2016)
    images/{split}/*.jpg
    annotations/{split}/*.png
""",
    )


def _camvid() -> Tree:
    codes = LabelCodes.of(11, ignored=(11, IGNORE))
    return Tree(
        layouts=tuple(Folders("{split}", "{split}annot", codes, image=image) for image in (".png", ".jpg")),
        splits=("train", "val", "test"),
        expected="""\
{root}/
    {split}/*.png           (or *.jpg)
    {split}annot/*.png      (12 classes, 11 is void)
""",
    )


def _nyu(codes: LabelCodes) -> Tree:
    formats = (".jpg", ".png")
    lists = tuple(Folders("images", "labels40", codes, image, names="{split}.txt") for image in formats)
    return Tree(
        layouts=(*lists, *(Folders("images", "labels40", codes, image, only=("all",)) for image in formats)),
        splits=("all", "test", "train"),
        expected="""\
{root}/
    images/*.jpg        (or *.png)
    labels40/*.png      (the usual 40 classes: 1 wall to 37 bag, 38 to 40 the rest classes, 0 unlabelled)
    test.txt, train.txt (names of images, for these splits alone; the split all is every labelled image)
""",
    )


# From the 40 classes to 13 of Couprie et al. (arXiv 1301.3572), in SceneNet's usual order: index 40 -> class from 1.
_NYU_13 = (
    0, 12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7,
    7, 7, 7, 6, 7,
)  # fmt: skip


def _nyu_13() -> Tree:
    table = np.full(256, -1, np.int16)
    table[: len(_NYU_13)] = np.array(_NYU_13) - 1
    table[[0, IGNORE]] = IGNORE
    return _nyu(LabelCodes(table))


def _coco_mini() -> Tree:
    parts = {"all": lambda place: True, "tune": lambda place: place % 4 == 0, "report": lambda place: place % 4 != 0}
    annotations, names = "annotations/instances_train2017.json", read_classes("coco_object").names
    return Tree(
        layouts=(
            Instances("train2017", annotations, names, parts),
            Instances("images/train2017", annotations, names, parts),
        ),
        splits=tuple(parts),
        expected="{root}/\n    train2017/*.jpg\n    annotations/instances_train2017.json\n",
    )


_MAKERS = {
    "voc21": lambda: Protocol(
        "voc21", "Pascal VOC 2012, 20 classes and background", "voc", _voc(LabelCodes.of(21)),
        "val", "train", 1449, background=True,
    ),
    "voc20": lambda: Protocol(
        "voc20", "Pascal VOC 2012, 20 classes", "voc", _voc(LabelCodes.of(20, first=1, ignored=(0, IGNORE))),
        "val", "train", 1449,
    ),
    "context60": lambda: Protocol(
        "context60", "Pascal Context, 59 classes and background", "context", _context(LabelCodes.of(60)),
        "val", "train", 5104, background=True,
    ),
    "context59": lambda: Protocol(
        "context59", "Pascal Context, 59 classes", "context",
        _context(LabelCodes.of(59, first=1, ignored=(0, IGNORE))), "val", "train", 5104,
    ),
    "coco-object": lambda: Protocol(
        "coco-object", "COCO-Object, 80 classes and background", "coco_object", _coco_object(),
        "val2017", "train2017", 5000, background=True,
    ),
    "coco-stuff": lambda: Protocol(
        "coco-stuff", "COCO-Stuff 164k, 171 classes", "coco_stuff", _coco_stuff(), "val2017", "train2017", 5000,
    ),
    "cityscapes": lambda: Protocol(
        "cityscapes", "Cityscapes, 19 classes", "cityscapes", _cityscapes(), "val", "train", 500,
    ),
    "ade20k": lambda: Protocol(
        "ade20k", "ADE20K, 150 classes", "ade20k", _ade20k(), "validation", "training", 2000,
    ),
    "camvid": lambda: Protocol(
        "camvid", "CamVid, 11 classes", "camvid", _camvid(), "val", "train", None, mode="whole",
    ),
    # The three rest classes are no names that anybody asks for: no prompts, and their pixels count nowhere.
    "nyu40": lambda: Protocol(
        "nyu40", "NYU Depth V2, 37 of the 40 classes (without the rest classes)", "nyu40",
        _nyu(LabelCodes.of(37, first=1, ignored=(0, 38, 39, 40, IGNORE))), "all", "train", None, mode="whole",
    ),
    "nyu13": lambda: Protocol(
        "nyu13", "NYU Depth V2, 13 classes", "nyu13", _nyu_13(), "all", "train", None, mode="whole",
    ),
    "coco-mini": lambda: Protocol(
        "coco-mini", "COCO things on a few images of train2017, 80 classes and background", "coco_object",
        _coco_mini(), "all", "tune", None, background=True, mode="whole",
    ),
}  # fmt: skip

DATASETS = tuple(_MAKERS)


def protocol(name: str) -> Protocol:
    """Return a data set's protocol; raise ValueError naming those that there are."""
    if name not in _MAKERS:
        raise ValueError(f"dataset {name!r}: expected one of scenes, {', '.join(_MAKERS)}")
    return _MAKERS[name]()
