"""A Result becomes messages that say the same."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks

from synseg_model.io.drawing import overlay, palette
from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.interfaces.mask_encodings import mask_in_frame
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS
from synseg_ros.ros_messages import MAKER

pytestmark = pytest.mark.ros

HEADER = Header(stamp=Time(sec=5, nanosec=7), frame_id="lens")


def vocabulary_of(count):
    names = tuple(f"label {index}" for index in range(count))
    return Vocabulary(names, np.full(count, 0.5, np.float32), np.zeros((count, 4), np.float32), "0" * 64)


@pytest.fixture
def result():
    """Three labels on 4x6 pixels: one in a corner, one nowhere, one on a column."""
    maps = np.zeros((3, 4, 6), np.float32)
    maps[0, 2:, 3:] = 0.75
    maps[0, 2, 3] = 0.25
    maps[2, :, 1] = 1.0
    return Result(vocabulary_of(3), maps, (4, 6))


def test_masks_of_present_labels_are_cropped_to_their_boxes(result):
    message = MAKER.class_masks(result, HEADER, version=4)
    assert (message.header, message.vocabulary_version) == (HEADER, 4)
    assert (message.height, message.width, message.labels) == (4, 6, ["label 0", "label 1", "label 2"])
    corner, column = message.masks
    assert (corner.id, corner.label, corner.area) == (1, "label 0", 5)
    assert (column.id, column.label, column.area) == (3, "label 2", 4)
    assert (corner.roi.x_offset, corner.roi.y_offset, corner.roi.width, corner.roi.height) == (3, 2, 3, 2)
    assert corner.score == pytest.approx(0.75)
    assert (corner.presence, column.presence) == (0.75, 1.0)
    assert (corner.mask.encoding, corner.mask.header) == ("mono8", HEADER)
    np.testing.assert_array_equal(image_to_array(corner.mask), [[0, 255, 255], [255, 255, 255]])
    np.testing.assert_array_equal(image_to_array(column.mask), np.full((4, 1), 255))


def test_pasting_the_cropped_masks_gives_the_masks_back(result):
    for mask in MAKER.class_masks(result, HEADER, version=1).masks:
        pasted = np.zeros((4, 6), np.uint8)
        x, y = mask.roi.x_offset, mask.roi.y_offset
        pasted[y : y + mask.roi.height, x : x + mask.roi.width] = image_to_array(mask.mask)
        np.testing.assert_array_equal(pasted == 255, result.masks[mask.id - 1])


def test_label_map_and_confidence_have_the_frames_size_and_header(result):
    label_map, confidence = MAKER.label_map(result, HEADER), MAKER.confidence(result, HEADER)
    assert label_map.header == confidence.header == HEADER
    assert (label_map.encoding, confidence.encoding) == ("mono8", "mono8")
    np.testing.assert_array_equal(image_to_array(label_map), result.label_map)
    np.testing.assert_array_equal(image_to_array(confidence), np.round(255 * result.confidence))


@pytest.mark.parametrize(("count", "encoding"), [(254, "mono8"), (255, "mono16")])
def test_over_254_labels_the_label_map_has_16_bits(count, encoding):
    maps = np.zeros((count, 2, 2), np.float32)
    maps[-1, 0, 0] = 1
    message = MAKER.label_map(Result(vocabulary_of(count), maps, (2, 2)), HEADER)
    assert message.encoding == encoding
    np.testing.assert_array_equal(image_to_array(message), [[count, 0], [0, 0]])


def test_the_info_names_version_and_labels(result):
    info = MAKER.frame_info(result, HEADER, version=9, inference_ms=12.5)
    assert (info.header, info.vocabulary_version, info.labels) == (HEADER, 9, list(result.labels))
    assert info.inference_ms == 12.5


def test_the_status_says_how_labels_were_met_where_the_model_does():
    met = ("taught by masks (120 images)", 'never met; nearest known: "cup" (0.71)')
    assert MAKER.vocabulary_status(vocabulary_of(2), 1, Time(sec=1), pedigree=met).pedigree == list(met)
    assert MAKER.vocabulary_status(vocabulary_of(2), 1, Time(sec=1)).pedigree == []


def test_the_status_gives_every_label_its_threshold_and_the_overlays_colour():
    status = MAKER.vocabulary_status(vocabulary_of(3), 2, Time(sec=1))
    assert (status.version, status.labels) == (2, ["label 0", "label 1", "label 2"])
    assert (status.accepted, status.message) == (True, "")
    assert list(status.thresholds) == [0.5, 0.5, 0.5]
    colors = [[round(255 * value) for value in (c.r, c.g, c.b)] for c in status.colors]
    assert colors == palette(3).tolist()
    assert {c.a for c in status.colors} == {1.0}


def test_a_refusal_keeps_version_and_labels():
    status = MAKER.vocabulary_status(vocabulary_of(1), 2, Time(sec=1), refusal="empty label")
    assert (status.version, status.labels) == (2, ["label 0"])
    assert (status.accepted, status.message) == (False, "empty label")


def test_before_the_first_vocabulary_the_status_is_version_zero():
    status = MAKER.vocabulary_status(None, 0, Time(sec=1))
    assert (status.version, list(status.labels), status.accepted) == (0, [], True)


def test_ids_of_the_vocabulary_are_those_of_all_messages():
    maps = np.zeros((2, 2, 4), np.float32)
    maps[0, :, :2], maps[1, :, 2:] = 1, 1
    running = replace(vocabulary_of(2), ids=(7, 3))
    result = Result(running, maps, (2, 4))
    masks = MAKER.class_masks(result, HEADER, version=1)
    assert (list(masks.ids), [mask.id for mask in masks.masks]) == ([7, 3], [7, 3])
    assert list(MAKER.frame_info(result, HEADER, 1, 0.0).ids) == [7, 3]
    np.testing.assert_array_equal(image_to_array(MAKER.label_map(result, HEADER)), [[7, 7, 3, 3]] * 2)
    status = MAKER.vocabulary_status(running, 1, Time(sec=1))
    assert list(status.ids) == [7, 3]
    colors = [[round(255 * value) for value in (c.r, c.g, c.b)] for c in status.colors]
    assert colors == palette(7)[[6, 2]].tolist()
    drawn = overlay(np.zeros((2, 4, 3), np.uint8), result, opacity=1.0, names=False)
    assert (drawn[0, 0].tolist(), drawn[0, 3].tolist()) == (palette(7)[6].tolist(), palette(7)[2].tolist())


@pytest.mark.parametrize("encoding", MASK_ENCODINGS)
def test_every_encoding_of_masks_says_the_same_in_one_field(result, encoding):
    message = MAKER.with_masks(encoding).class_masks(result, HEADER, version=1)
    message = deserialize_message(serialize_message(message), ClassMasks)
    assert {mask.mask_encoding for mask in message.masks} == {encoding}
    for mask in message.masks:
        filled = [len(mask.mask.data) > 0, len(mask.mask_png.data) > 0, len(mask.mask_rle) > 0]
        assert filled == [encoding == kind for kind in ("mono8", "png", "rle")]
        np.testing.assert_array_equal(mask_in_frame(mask, (4, 6)), result.masks[mask.id - 1])


def test_a_maker_of_other_masks_leaves_the_first_one_as_it_is(result):
    MAKER.with_masks("png")
    assert MAKER.class_masks(result, HEADER, version=1).masks[0].mask_encoding == "mono8"
    with pytest.raises(ValueError, match="'jpeg' is unknown; accepted: mono8, png, rle"):
        MAKER.with_masks("jpeg")


def test_masks_of_scenes_are_at_least_ten_times_smaller_than_mono8():
    scenes = pytest.importorskip("training.scenes.scenes")
    sizes = dict.fromkeys(MASK_ENCODINGS, 0)
    for seed in range(5):
        scene = scenes.make_scene(seed, (480, 640))
        labels = tuple(dict.fromkeys(part.noun for part in scene.segments if part.noun))
        vocabulary = Vocabulary(
            labels, np.full(len(labels), 0.5, np.float32), np.zeros((len(labels), 4), np.float32), "0" * 64
        )
        maps = np.stack([scene.mask(label) for label in labels]).astype(np.float32)
        found = Result(vocabulary, maps, (480, 640))
        for encoding in MASK_ENCODINGS:
            sizes[encoding] += len(serialize_message(MAKER.with_masks(encoding).class_masks(found, HEADER, 1)))
    assert sizes["png"] * 10 <= sizes["mono8"] and sizes["rle"] * 10 <= sizes["mono8"], sizes
