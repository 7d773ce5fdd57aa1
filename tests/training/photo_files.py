"""Small data sets of photographs, written as the official ones lie on disk."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (4, 6)


def image(path: Path, size: tuple[int, int] = SIZE, colour: tuple[int, int, int] = (200, 30, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(path)


def labels(path: Path, values: list[int], palette: bool = False, dtype: type = np.uint8) -> None:
    """Write labels (4,6) whose every row holds `values`, six of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array([values] * SIZE[0], dtype)
    drawn = Image.fromarray(array)
    if palette:
        drawn.putpalette([value // 3 for value in range(768)])
    drawn.save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def camvid(root: Path, suffix: str = ".png") -> Path:
    for split in ("train", "val"):
        image(root / split / f"{split}_1{suffix}")
        labels(root / f"{split}annot/{split}_1.png", [0, 0, 9, 10, 11, 3])
    return root


def voc(root: Path, folder: str = "SegmentationClass", lists: tuple[str, ...] = ("train", "val")) -> Path:
    for number in (1, 2):
        image(root / f"JPEGImages/2007_{number}.jpg")
        labels(root / folder / f"2007_{number}.png", [0, 15, 15, 16, 20, 255], palette=True)
    for number, name in enumerate(lists, 1):
        text(root / f"ImageSets/Segmentation/{name}.txt", f"2007_{number}\n")
    return root


def nyu(root: Path) -> Path:
    image(root / "images/0001.png")
    labels(root / "labels/0001.png", [0, 1, 2, 3, 4, 5], dtype=np.uint16)
    text(root / "names.txt", "refridgerator\nshower curtain\ncoffee table\nunknown\nnight stand\n")
    return root


def clothing(root: Path) -> Path:
    image(root / "photos/0001.jpg")
    labels(root / "labels/0001.png", [0, 1, 2, 3, 3, 0])
    text(root / "label_list.txt", "null\naccessories\njeans\nhair\n")
    return root


def coco(root: Path) -> Path:
    image(root / "train2017/000000000007.jpg")
    square = [[0.2, 0.2, 3.8, 0.2, 3.8, 3.8, 0.2, 3.8]]
    small = [[0.2, 0.2, 1.8, 0.2, 1.8, 1.8, 0.2, 1.8]]
    rows = [
        {"image_id": 7, "category_id": 18, "area": 4, "iscrowd": 0, "segmentation": small},
        {"image_id": 7, "category_id": 67, "area": 16, "iscrowd": 0, "segmentation": square},
        {"image_id": 7, "category_id": 1, "area": 4, "iscrowd": 1,
         "segmentation": {"counts": [20, 4], "size": [4, 6]}},
    ]  # fmt: skip
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 67, "name": "dining table"}]
    images = [{"id": 7, "file_name": "000000000007.jpg", "height": 4, "width": 6}]
    content = {"images": images, "categories": categories, "annotations": rows}
    text(root / "annotations/instances_train2017.json", json.dumps(content))
    captions = {"annotations": [{"image_id": 7, "caption": "A dog on\n a table. "}]}
    text(root / "annotations/captions_train2017.json", json.dumps(captions))
    return root


def flickr8k(root: Path) -> Path:
    image(root / "Images/12_ab.jpg")
    text(root / "captions.txt", 'image,caption\n12_ab.jpg,"A dog , wet ."\n12_ab.jpg,It runs .\n')
    return root


def folders(root: Path) -> Path:
    image(root / "101_ObjectCategories/car_side/image_0001.jpg")
    image(root / "101_ObjectCategories/yin_yang/image_0001.jpg")
    image(root / "101_ObjectCategories/BACKGROUND_Google/image_0001.jpg")
    return root


MAKERS = {
    "nyu": nyu, "camvid": camvid, "voc": voc, "clothing": clothing, "coco": coco, "flickr8k": flickr8k,
    "folders": folders,
}  # fmt: skip
