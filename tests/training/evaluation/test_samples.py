import json

import numpy as np
import pytest
from PIL import Image

from training.datasets.coco_masks import instance_mask
from training.evaluation.coco_json import instance_samples
from training.evaluation.samples import EvaluationSample, LabelCodes, read_image


def test_codes_shift_and_ignore(tmp_path):
    Image.fromarray(np.array([[0, 1, 20, 255]], np.uint8)).save(tmp_path / "a.png")
    with_background, without = LabelCodes.of(21), LabelCodes.of(20, first=1, ignored=(0, 255))
    assert with_background.read(tmp_path / "a.png").tolist() == [[0, 1, 20, 255]]
    assert without.read(tmp_path / "a.png").tolist() == [[255, 0, 19, 255]]


def test_palette_files_are_read_by_index(tmp_path):
    image = Image.fromarray(np.array([[3, 5]], np.uint8), mode="P")
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "a.png")
    assert LabelCodes.of(21).read(tmp_path / "a.png").tolist() == [[3, 5]]


def test_value_of_another_data_set_is_named(tmp_path):
    Image.fromarray(np.array([[0, 77]], np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"hold the value 77: expected 0 to 20, 255\."):
        LabelCodes.of(21).read(tmp_path / "a.png")


def test_labels_in_colours_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="RGB image: expected one channel"):
        LabelCodes.of(21).read(tmp_path / "a.png")


def test_damaged_labels_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read the labels .*a\.png"):
        LabelCodes.of(21).read(tmp_path / "a.png")


def test_image_and_truth_of_different_sizes_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    sample = EvaluationSample("a", tmp_path / "a.png", lambda: np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match="is 6x4 pixels and its labels are 4x6"):
        sample.read()


def test_missing_image_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no image .*gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


def test_image_is_not_turned_by_exif_because_labels_are_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (4, 6, 3)


def test_run_lengths_go_down_the_columns():
    mask = instance_mask({"counts": [1, 2, 3], "size": [3, 2]}, (3, 2))
    assert mask.tolist() == [[False, False], [True, False], [True, False]]


def test_polygons_of_one_instance_add_up_where_they_overlap():
    square = [1, 1, 7, 1, 7, 7, 1, 7]
    once, twice = instance_mask([square], (10, 10)), instance_mask([square, square], (10, 10))
    np.testing.assert_array_equal(once, twice)
    assert once[2:6, 2:6].all() and not once[8:].any()


def test_compressed_run_lengths_are_refused():
    with pytest.raises(ValueError, match="compressed run lengths"):
        instance_mask({"counts": "abc", "size": [3, 2]}, (3, 2))


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"counts": [1, 2, 300]}, "run lengths that are not of 3x2 pixels"),
        ({"counts": [1, -1, 6]}, "run lengths that are not of 3x2 pixels"),
        ({"counts": [1.5, 4.5]}, "run lengths that are not of 3x2 pixels"),
        ([[1, 1, 7]], "expected pairs of coordinates"),
        ([[1, 1, 2, 2, float("nan"), 3]], "expected pairs of coordinates"),
        ([[1, 1, 2, 2, 1e9, 3]], "expected pairs of coordinates"),
        ("abc", "an instance is a str"),
    ],
)
def test_damaged_instances_never_reach_cocos_own_code(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        instance_mask(segmentation, (3, 2))


def test_polygons_without_an_area_draw_nothing():
    assert not instance_mask([], (4, 4)).any() and not instance_mask([[1, 1, 3, 3]], (4, 4)).any()


def write_instances(path, category="cat"):
    box = [0, 0, 8, 0, 8, 8, 0, 8]
    small = [2, 2, 5, 2, 5, 5, 2, 5]
    content = {
        "images": [
            {"id": 9, "file_name": "b.jpg", "height": 8, "width": 8},
            {"id": 3, "file_name": "a.jpg", "height": 8, "width": 8},
        ],
        "categories": [{"id": 17, "name": category}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"image_id": 9, "category_id": 18, "area": 9, "segmentation": [small], "iscrowd": 0},
            {"image_id": 9, "category_id": 17, "area": 64, "segmentation": [box], "iscrowd": 0},
        ],
    }
    path.write_text(json.dumps(content))


def test_small_instances_lie_on_large_ones_and_images_without_any_count(tmp_path):
    write_instances(tmp_path / "instances.json")
    first, second = instance_samples(tmp_path / "instances.json", tmp_path, ("dog", "cat"))
    assert (first.name, second.name) == ("a", "b")
    assert not first.truth().any()
    truth = second.truth()
    assert truth[3, 3] == 1 and truth[0, 0] == 2


def test_category_of_another_data_set_is_named(tmp_path):
    write_instances(tmp_path / "instances.json", "unicorn")
    with pytest.raises(ValueError, match="category 'unicorn': expected COCO's 2"):
        instance_samples(tmp_path / "instances.json", tmp_path, ("dog", "cat"))


def test_file_that_holds_no_instances_is_named(tmp_path):
    (tmp_path / "instances.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="as COCO instances"):
        instance_samples(tmp_path / "instances.json", tmp_path, ("dog", "cat"))
