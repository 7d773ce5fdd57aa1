import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluation.layouts import MissingDataError
from training.evaluation.protocols import DATASETS, protocol

SHARED = Path(__file__).parents[4] / "shared" / "data"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(path)


def labels(path: Path, values: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values, values], np.uint8)).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def voc(root: Path, folder: str, sets: str, values: list[int]) -> None:
    for name in ("2007_1", "2007_2"):
        image(root / "JPEGImages" / f"{name}.jpg")
        labels(root / folder / f"{name}.png", values)
    text(root / "ImageSets" / sets / "val.txt", "2007_2\n")
    text(root / "ImageSets" / sets / "train.txt", "2007_1\n")


def truth_of(name: str, root: Path, split: str | None = None) -> dict[str, list[int]]:
    """Read every sample of a split: name to the first row of its truth."""
    chosen = protocol(name)
    samples, bare = chosen.tree.samples(root, split or chosen.split)
    assert not bare
    return {sample.name: sample.read()[1][0].tolist() for sample in samples}


@pytest.mark.parametrize("inside", ["", "VOCdevkit/VOC2012"])
def test_voc_reads_the_list_of_the_split_in_both_protocols(tmp_path, inside):
    voc(tmp_path / inside, "SegmentationClass", "Segmentation", [0, 1, 20, 255])
    assert truth_of("voc21", tmp_path) == {"2007_2": [0, 1, 20, 255]}
    assert truth_of("voc20", tmp_path, "train") == {"2007_1": [255, 0, 19, 255]}


def test_context_reads_the_list_of_the_split_in_both_protocols(tmp_path):
    voc(tmp_path / "VOCdevkit/VOC2010", "SegmentationClassContext", "SegmentationContext", [0, 1, 59, 59])
    assert truth_of("context60", tmp_path) == {"2007_2": [0, 1, 59, 59]}
    assert truth_of("context59", tmp_path) == {"2007_2": [255, 0, 58, 58]}


def test_coco_object_from_converted_maps(tmp_path):
    image(tmp_path / "images/val2017/000000000139.jpg")
    labels(tmp_path / "annotations/val2017/000000000139_instanceTrainIds.png", [0, 1, 80, 255])
    labels(tmp_path / "annotations/val2017/000000000139.png", [0, 0, 0, 0])
    assert truth_of("coco-object", tmp_path) == {"000000000139": [0, 1, 80, 255]}


def test_coco_object_from_stuff_maps_makes_all_stuff_background(tmp_path):
    image(tmp_path / "val2017/000000000139.jpg")
    labels(tmp_path / "stuffthingmaps/val2017/000000000139.png", [0, 89, 91, 255])
    assert truth_of("coco-object", tmp_path) == {"000000000139": [1, 80, 0, 255]}


def test_coco_object_from_instances(tmp_path):
    image(tmp_path / "val2017/000000000139.jpg")
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 2, "width": 4}],
        "categories": [{"id": 90, "name": "toothbrush"}],
        "annotations": [
            {"image_id": 139, "category_id": 90, "area": 4, "iscrowd": 1,
             "segmentation": {"counts": [0, 4, 4], "size": [2, 4]}}
        ],
    }  # fmt: skip
    text(tmp_path / "annotations/instances_val2017.json", json.dumps(content))
    assert truth_of("coco-object", tmp_path) == {"000000000139": [80, 80, 0, 0]}


def test_coco_stuff_from_converted_maps(tmp_path):
    image(tmp_path / "images/val2017/000000000139.jpg")
    labels(tmp_path / "annotations/val2017/000000000139_labelTrainIds.png", [0, 79, 170, 255])
    assert truth_of("coco-stuff", tmp_path) == {"000000000139": [0, 79, 170, 255]}


def test_coco_stuff_from_its_own_maps_closes_the_gaps(tmp_path):
    image(tmp_path / "images/val2017/000000000139.jpg")
    labels(tmp_path / "annotations/val2017/000000000139.png", [12, 89, 91, 181])
    assert truth_of("coco-stuff", tmp_path) == {"000000000139": [11, 79, 80, 170]}


def test_cityscapes_is_read_city_by_city(tmp_path):
    for city in ("munster", "lindau"):
        stem = f"{city}/{city}_000000_000019"
        image(tmp_path / f"leftImg8bit/val/{stem}_leftImg8bit.png")
        labels(tmp_path / f"gtFine/val/{stem}_gtFine_labelTrainIds.png", [0, 18, 255, 255])
        labels(tmp_path / f"gtFine/val/{stem}_gtFine_labelIds.png", [7, 33, 0, 0])
    assert truth_of("cityscapes", tmp_path) == {
        "lindau/lindau_000000_000019": [0, 18, 255, 255],
        "munster/munster_000000_000019": [0, 18, 255, 255],
    }


def test_ade20k_counts_from_one_and_ignores_zero(tmp_path):
    image(tmp_path / "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg")
    labels(tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", [0, 1, 150, 150])
    assert truth_of("ade20k", tmp_path) == {"ADE_val_00000001": [255, 0, 149, 149]}


def test_camvid_ignores_void(tmp_path):
    image(tmp_path / "test/0016E5_00001.png")
    labels(tmp_path / "testannot/0016E5_00001.png", [0, 10, 11, 11])
    assert truth_of("camvid", tmp_path, "test") == {"0016E5_00001": [0, 10, 255, 255]}


def test_camvid_reads_jpeg_images(tmp_path):
    image(tmp_path / "train/0001TP_1.jpg")
    labels(tmp_path / "trainannot/0001TP_1.png", [0, 10, 11, 11])
    assert truth_of("camvid", tmp_path, "train") == {"0001TP_1": [0, 10, 255, 255]}


def test_voc_with_the_masks_of_sbd(tmp_path):
    image(tmp_path / "JPEGImages/2007_1.jpg")
    labels(tmp_path / "SegmentationClassAug/2007_1.png", [0, 1, 20, 255])
    text(tmp_path / "ImageSets/Segmentation/train_aug.txt", "2007_1\n")
    assert truth_of("voc21", tmp_path, "train") == {"2007_1": [0, 1, 20, 255]}


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_nyu_ignores_the_rest_classes_of_the_40_and_counts_them_among_the_13(tmp_path, suffix):
    for name, values in (("0001", [0, 1, 37, 38]), ("0002", [24, 39, 40, 5])):
        image(tmp_path / f"images/{name}{suffix}")
        labels(tmp_path / f"labels40/{name}.png", values)
    assert truth_of("nyu40", tmp_path) == {"0001": [255, 0, 36, 255], "0002": [23, 255, 255, 4]}
    names = (*protocol("nyu13").labels(), *["ignored"] * 243)
    assert {name: [names[i] for i in row] for name, row in truth_of("nyu13", tmp_path).items()} == {
        "0001": ["ignored", "wall", "objects", "objects"],
        "0002": ["furniture", "furniture", "objects", "chair"],
    }
    text(tmp_path / "test.txt", "0002\n")
    assert list(truth_of("nyu40", tmp_path, "test")) == ["0002"]


def test_every_class_of_the_13_is_made_of_classes_of_the_40_that_say_the_same(tmp_path):
    image(tmp_path / "images/1.jpg")
    fine, coarse = protocol("nyu40").labels(), protocol("nyu13").labels()
    for value, name in enumerate(fine, 1):
        labels(tmp_path / "labels40/1.png", [value] * 4)
        made_of = coarse[truth_of("nyu13", tmp_path)["1"][0]]
        own = {"television": "tv", "floor mat": "floor"}.get(name, name)
        assert own not in coarse or made_of == own


def test_sample_without_lists_is_read_whole_and_said_to_be_so(tmp_path):
    image(tmp_path / "JPEGImages/2011_3.jpg")
    labels(tmp_path / "SegmentationClass/2011_3.png", [0, 0, 0, 0])
    samples, bare = protocol("voc21").tree.samples(tmp_path, "val")
    assert [sample.name for sample in samples] == ["2011_3"] and bare


def test_data_set_with_lists_is_never_taken_for_a_sample(tmp_path):
    voc(tmp_path, "SegmentationClass", "Segmentation", [0, 0, 0, 0])
    (tmp_path / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(MissingDataError, match=r"it has the split train"):
        protocol("voc21").tree.samples(tmp_path, "val")


@pytest.mark.parametrize("name", DATASETS)
def test_missing_data_set_shows_the_expected_tree(name, tmp_path):
    chosen = protocol(name)
    with pytest.raises(MissingDataError) as caught:
        chosen.tree.samples(tmp_path / "nowhere", chosen.split)
    message = str(caught.value)
    assert f"no data set at {tmp_path / 'nowhere'}: the folder is not there" in message
    assert f"\n{tmp_path / 'nowhere'}/" in message
    assert "{" not in message and "\n    " in message


def test_unknown_split_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match="split 'test': expected one of val, train"):
        protocol("voc21").tree.samples(tmp_path, "test")


def test_unknown_data_set_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'imagenet': expected one of scenes, voc21"):
        protocol("imagenet")


@pytest.mark.parametrize("name", DATASETS)
def test_labels_fit_the_truth(name):
    chosen = protocol(name)
    assert len(chosen.labels()) == len(chosen.class_list()) + chosen.background
    assert chosen.split in chosen.tree.splits and chosen.tune_split in chosen.tree.splits
    assert chosen.split != chosen.tune_split


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "folder", "count"),
    [
        ("voc21", "voc2011-sample", 3),
        ("ade20k", "ade20k-sample", 3),
        ("camvid", "camvid", 101),
        ("nyu40", "nyu-depth-v2", 795),
        ("nyu13", "nyu-depth-v2", 795),
        ("coco-mini", "coco-mini", 80),
    ],
)
def test_real_samples_are_found_and_read(name, folder, count):
    chosen = protocol(name)
    samples, _ = chosen.tree.samples(SHARED / folder, chosen.split)
    assert len(samples) == count
    truth = np.concatenate([sample.read()[1].ravel() for sample in samples[:3]])
    assert set(np.unique(truth)) <= {*range(len(chosen.labels())), 255}


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_parts_of_coco_mini_share_no_image():
    tree = protocol("coco-mini").tree
    names = {split: {sample.name for sample in tree.samples(SHARED / "coco-mini", split)[0]} for split in tree.splits}
    assert not names["tune"] & names["report"]
    assert names["tune"] | names["report"] == names["all"]


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_drawn_instances_have_the_areas_that_coco_says():
    from training.datasets.coco_masks import instance_mask

    content = json.loads((SHARED / "coco-mini/annotations/instances_train2017.json").read_text())
    sizes = {row["id"]: (row["height"], row["width"]) for row in content["images"]}
    large = [row for row in content["annotations"] if row["area"] > 500]
    ratios = [instance_mask(row["segmentation"], sizes[row["image_id"]]).sum() / row["area"] for row in large]
    assert len(large) > 100
    assert abs(np.median(ratios) - 1) < 0.005
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.02) > 0.98
