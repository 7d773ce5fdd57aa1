from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.photo_files import camvid, clothing, coco, flickr8k, image, labels, nyu, text, voc
from training.datasets.photos import PhotoError, open_photos


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def noise(path: Path) -> None:
    """Write an image that does not compress, so that half of the file is half of the image."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_that_is_cut_short_is_named(tmp_path, suffix):
    path = camvid(tmp_path, suffix) / f"train/train_1{suffix}"
    noise(path)
    cut(path)
    with pytest.raises(PhotoError, match=rf"train_1\{suffix} is cut short"):
        open_photos("camvid", tmp_path)[0]


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (flickr8k(tmp_path) / "Images/12_ab.jpg").write_bytes(content)
    with pytest.raises(PhotoError, match=r"12_ab\.jpg is no readable image"):
        open_photos("flickr8k", tmp_path)[0]


def test_a_missing_image_is_named(tmp_path):
    (voc(tmp_path) / "JPEGImages/2007_1.jpg").unlink()
    with pytest.raises(PhotoError, match=r"2007_1\.jpg is missing"):
        open_photos("voc", tmp_path)[0]


@pytest.mark.parametrize("kind", ["voc", "nyu"])
def test_labels_that_are_cut_short_are_named(tmp_path, kind):
    path = {"voc": voc, "nyu": nyu}[kind](tmp_path) / {
        "voc": "SegmentationClass/2007_1.png", "nyu": "labels/0001.png"}[kind]  # fmt: skip
    cut(path)
    with pytest.raises(PhotoError, match=path.name):
        open_photos(kind, tmp_path)[0]


def test_labels_of_another_size_are_named_with_both_sizes(tmp_path):
    image(camvid(tmp_path) / "train/train_1.png", size=(5, 6))
    with pytest.raises(PhotoError, match=r"train_1\.png is 6x5 pixels and its labels .*annot/train_1\.png are 6x4"):
        open_photos("camvid", tmp_path)[0]


def test_labels_in_colours_are_refused(tmp_path):
    image(camvid(tmp_path) / "trainannot/train_1.png")
    with pytest.raises(PhotoError, match=r"uint8 of shape \(4, 6, 3\): expected one channel"):
        open_photos("camvid", tmp_path)[0]


def test_a_label_without_a_name_is_refused(tmp_path):
    labels(nyu(tmp_path) / "labels/0001.png", [6] * 6, dtype=np.uint16)
    with pytest.raises(PhotoError, match="hold the value 6: expected the set's 6 values from 0 to 5"):
        open_photos("nyu", tmp_path)[0]


def test_a_class_value_that_the_set_does_not_have_is_refused(tmp_path):
    labels(camvid(tmp_path) / "trainannot/train_1.png", [12] * 6)
    with pytest.raises(PhotoError, match="hold the value 12"):
        open_photos("camvid", tmp_path)[0]


def test_a_list_of_another_data_set_is_refused(tmp_path):
    text(clothing(tmp_path) / "label_list.txt", "wall\nfloor\n")
    with pytest.raises(PhotoError, match=r"label_list\.txt has no class null among its 2"):
        open_photos("clothing", tmp_path)


def test_captions_without_a_comma_are_refused(tmp_path):
    text(flickr8k(tmp_path) / "captions.txt", "image,caption\n12_ab.jpg A dog\n")
    with pytest.raises(PhotoError, match=r"the line '12_ab\.jpg A dog'"):
        open_photos("flickr8k", tmp_path)


def test_an_instances_file_that_is_cut_short_is_named(tmp_path):
    cut(coco(tmp_path) / "annotations/instances_train2017.json")
    with pytest.raises(PhotoError, match=r"instances_train2017\.json as COCO instances"):
        open_photos("coco", tmp_path)


def test_an_image_of_another_size_than_its_instances_is_named(tmp_path):
    image(coco(tmp_path) / "train2017/000000000007.jpg", size=(6, 4))
    with pytest.raises(PhotoError, match=r"000000000007\.jpg is 4x6 pixels and its labels .* are 6x4"):
        open_photos("coco", tmp_path)[0]


def test_the_official_nyu_file_that_is_damaged_is_named(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 7.3")
    with pytest.raises(PhotoError, match=r"nyu_depth_v2_labeled\.mat as HDF5"):
        open_photos("nyu", tmp_path)
