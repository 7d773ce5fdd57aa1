from pathlib import Path

import numpy as np
import pytest

from tests.training.photo_files import MAKERS, camvid, clothing, coco, flickr8k, folders, image, labels, nyu, text, voc
from training.datasets.photos import (
    KINDS,
    UNLABELLED,
    MissingPhotosError,
    Photo,
    PhotoSubset,
    held_out,
    open_photos,
    training_and_held_out,
)


def first_row(photo: Photo) -> list[tuple[str, ...] | None]:
    """Name the pixels of the first row, None where nothing is known."""
    return [None if index == UNLABELLED else photo.regions[index] for index in photo.index_map[0]]


def test_images_are_rgb_and_regions_are_those_in_the_image(tmp_path):
    photo = open_photos("camvid", camvid(tmp_path))[0]
    assert photo.image.shape == (4, 6, 3)
    assert photo.image[0, 0].tolist() == [200, 30, 10]
    assert photo.index_map.dtype == np.uint8
    assert set(photo.regions) == {("sky",), ("pedestrian", "person"), ("bicyclist", "cyclist", "person"), ("road",)}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_camvid_reads_its_splits_in_both_image_formats(tmp_path, suffix):
    root = camvid(tmp_path, suffix)
    assert open_photos("camvid", root).keys == ["train_1"]
    photos = open_photos("camvid", root, "val")
    assert photos.keys == ["val_1"]
    assert first_row(photos[0])[:2] == [("sky",), ("sky",)]
    assert first_row(photos[0])[4] is None
    assert len(photos.exhaustive) == 11


@pytest.mark.parametrize("inside", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_reads_label_images_with_a_palette(tmp_path, inside):
    voc(tmp_path / inside)
    photos = open_photos("voc", tmp_path)
    person, plant, television = ("person",), ("potted plant", "plant"), ("television",)
    assert photos.keys == ["2007_1"]
    assert first_row(photos[0]) == [(), person, person, plant, television, None]
    assert open_photos("voc", tmp_path, "val").keys == ["2007_2"]


def test_voc_prefers_the_masks_of_sbd(tmp_path):
    voc(tmp_path)
    voc(tmp_path, "SegmentationClassAug", ("train_aug",))
    labels(tmp_path / "SegmentationClassAug/2007_1.png", [1] * 6)
    assert open_photos("voc", tmp_path)[0].regions == (("airplane",),)


def test_voc_without_lists_takes_every_label_image(tmp_path):
    assert open_photos("voc", voc(tmp_path, lists=())).keys == ["2007_1", "2007_2"]


def test_nyu_joins_raw_names_and_the_usual_classes(tmp_path):
    photos = open_photos("nyu", nyu(tmp_path))
    row = first_row(photos[0])
    assert row == [None, ("refrigerator",), ("shower curtain",), ("coffee table", "table"), (), ("nightstand",)]
    assert len(photos.exhaustive) == 37
    assert "refrigerator" in photos.exhaustive


def test_nyu_reads_the_official_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    drawn = np.zeros((2, 3, 6, 4), np.uint8)  # image, channel, column, row: MATLAB's order
    drawn[1, 0, 5, 0] = 255
    classes = np.zeros((2, 6, 4), np.uint16)
    classes[1, 5, 0] = 2
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"], file["labels"] = drawn, classes
        names = file.create_dataset("names", (1, 2), h5py.ref_dtype)
        for place, name in enumerate(("wall", "coffee table")):
            file[f"cells/{place}"] = np.array([[ord(letter)] for letter in name], np.uint16)
            names[0, place] = file[f"cells/{place}"].ref
    photos = open_photos("nyu", tmp_path)
    assert photos.keys == ["0001", "0002"]
    assert photos[1].image.shape == (4, 6, 3)
    assert photos[1].image[0, 5].tolist() == [255, 0, 0]
    assert first_row(photos[1])[4:] == [None, ("coffee table", "table")]


def test_clothing_knows_nothing_of_pixels_with_an_unusable_name(tmp_path):
    photos = open_photos("clothing", clothing(tmp_path))
    assert first_row(photos[0]) == [(), None, ("jeans", "pants"), ("hair",), ("hair",), ()]
    assert photos.exhaustive == ("jeans", "hair")


def test_clothing_reads_the_published_label_files(tmp_path):
    from scipy.io import savemat

    image(tmp_path / "photos/0001.jpg")
    (tmp_path / "annotations/pixel-level").mkdir(parents=True)
    values = np.array([[0, 1, 1, 2, 2, 0]] * 4, np.uint8)
    savemat(tmp_path / "annotations/pixel-level/0001.mat", {"groundtruth": values})
    savemat(tmp_path / "label_list.mat", {"label_list": np.array([["null", "bag", "t-shirt"]], object)})
    photos = open_photos("clothing", tmp_path)
    assert photos.keys == ["0001"]
    assert first_row(photos[0])[:4] == [(), ("bag",), ("bag",), ("t-shirt", "shirt")]


def test_coco_draws_small_instances_on_large_ones_and_leaves_crowds_out(tmp_path):
    photos = open_photos("coco", coco(tmp_path))
    photo, table = photos[0], ("dining table", "table")
    assert photos.keys == ["000000000007"]
    assert photos.exhaustive == ("person", "dog", "dining table")
    assert first_row(photo) == [("dog",), ("dog",), table, table, (), None]
    assert photo.captions == ("A dog on a table.",)


def test_coco_without_captions_has_none(tmp_path):
    coco(tmp_path)
    (tmp_path / "annotations/captions_train2017.json").unlink()
    assert open_photos("coco", tmp_path)[0].captions == ()


@pytest.mark.parametrize("layout", ["csv", "official"])
def test_flickr8k_reads_captions_of_both_layouts(tmp_path, layout):
    if layout == "csv":
        flickr8k(tmp_path)
    else:
        image(tmp_path / "Flicker8k_Dataset/12_ab.jpg")
        text(tmp_path / "Flickr8k.token.txt", "12_ab.jpg#0\tA dog , wet .\n12_ab.jpg#1\tIt runs .\n12.jpg.1#0\tX .\n")
    photos = open_photos("flickr8k", tmp_path)
    assert photos.keys == ["12_ab.jpg"]
    assert photos[0].captions == ("A dog , wet .", "It runs .")
    assert photos[0].index_map is None


def test_folders_name_their_images_and_unusable_names_are_left_out(tmp_path):
    photos = open_photos("folders", folders(tmp_path))
    assert photos.keys == ["car_side/image_0001.jpg"]
    assert photos[0].names == ("car",)
    assert photos.exhaustive == ()


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("n02099601_golden_retriever.JPEG", ("golden retriever", "retriever", "dog")),
        ("n02113186_Cardigan.JPEG", ("corgi", "dog")),  # a dog, and
        ("n02963159_cardigan.JPEG", ("cardigan", "sweater")),  # not a dog
        ("n01530575_brambling.JPEG", ("brambling", "bird")),
    ],
)
def test_file_names_name_their_images_and_ids_their_group(tmp_path, file, names):
    image((tmp_path / file).with_suffix(".jpeg"))
    assert open_photos("folders", tmp_path)[0].names == names


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_not_there_shows_the_expected_tree(tmp_path, kind):
    with pytest.raises(MissingPhotosError, match=r"is not there\. Expected:\n\n.*nowhere"):
        open_photos(kind, tmp_path / "nowhere")
    with pytest.raises(MissingPhotosError, match="none of the known layouts"):
        open_photos(kind, tmp_path)


def test_an_unknown_kind_or_split_names_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"'imagenet': expected one of nyu, camvid, .*folders"):
        open_photos("imagenet", tmp_path)
    with pytest.raises(ValueError, match="'dev' of CamVid: expected train or val or test"):
        open_photos("camvid", camvid(tmp_path), "dev")


def test_the_held_out_share_depends_on_each_key_alone():
    keys = [f"{number:04d}" for number in range(2000)]
    chosen = held_out(keys, 0.1)
    assert 150 < len(chosen) < 250
    assert held_out(keys[::-2], 0.1) == chosen & set(keys[::-2])
    assert held_out(keys, 0.1, seed=1) != chosen
    assert held_out(keys, 0) == set()
    assert held_out(keys, 1) == set(keys)
    with pytest.raises(ValueError, match=r"share 1\.5"):
        held_out(keys, 1.5)


def test_the_parts_for_training_and_measuring_share_no_photograph(tmp_path):
    for number in range(40):
        image(tmp_path / f"n02099601_thing{number}.jpg")
    training, apart = training_and_held_out("folders", tmp_path, share=0.3)
    assert 0 < len(apart) < len(training)
    assert not set(training.keys) & set(apart.keys)
    assert training[0].names[0] in training.keys[0]


def test_camvid_is_measured_on_its_own_split(tmp_path):
    training, apart = training_and_held_out("camvid", camvid(tmp_path))
    assert (training.keys, apart.keys) == (["train_1"], ["val_1"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_survives_the_way_to_a_worker_process(tmp_path, kind):
    from multiprocessing.reduction import ForkingPickler

    root: Path = MAKERS[kind](tmp_path)
    photos = PhotoSubset(open_photos(kind, root), open_photos(kind, root).keys)
    copy = ForkingPickler.loads(ForkingPickler.dumps(photos))
    assert copy.keys == photos.keys
    np.testing.assert_array_equal(copy[0].image, photos[0].image)
