"""Masks written as bytes are the same message as masks made as an object."""

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks

from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.interfaces.serialized_masks import serialize_class_masks
from synseg_ros.ros_messages import MAKER, cdr_is_used

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(not cdr_is_used(), reason="this middleware has a serialisation of its own"),
]

WORDS = ("", "a", "red ball", "Straße", "交通信号", "x" * 200)


def random_result(random, words=WORDS[1:]):
    """Make a result of up to twelve labels on an image of any size, with boxes of any size or none."""
    count = int(random.integers(1, 13))
    height, width = (int(side) for side in random.integers(1, 60, 2))
    maps = np.zeros((count, 7, 9), np.float32)
    for plane in maps[random.random(count) < 0.7]:
        y, x = random.integers(0, (7, 9))
        plane[y : y + random.integers(1, 7), x : x + random.integers(1, 9)] = random.random()
        maps[random.integers(0, count)] = plane
    labels = tuple(f"{words[random.integers(0, len(words))]} {index}" for index in range(count))
    ids = tuple(int(number) for number in 1 + random.permutation(65535)[:count])
    embeddings = np.zeros((count, 4), np.float32)
    return Result(Vocabulary(labels, random.random(count), embeddings, "0" * 64, ids), maps, (height, width))


def test_the_bytes_are_the_message_that_the_maker_makes():
    random = np.random.default_rng(5)
    masks = 0
    for _ in range(300):
        result, version = random_result(random), int(random.integers(0, 2**32))
        stamp = Time(sec=int(random.integers(-(2**31), 2**31)), nanosec=int(random.integers(0, 10**9)))
        header = Header(stamp=stamp, frame_id=WORDS[random.integers(0, len(WORDS))])
        made, written = MAKER.class_masks(result, header, version), serialize_class_masks(result, header, version)
        expected = serialize_message(made)
        assert deserialize_message(written, ClassMasks) == deserialize_message(expected, ClassMasks)
        assert len(written) == len(expected)  # no byte is left behind the message
        masks += len(made.masks)
    assert masks > 300


def test_a_frame_in_which_nothing_is_found_is_a_message_without_masks():
    vocabulary = Vocabulary(("ball",), np.ones(1, np.float32), np.zeros((1, 4), np.float32), "0" * 64)
    result = Result(vocabulary, np.zeros((1, 4, 4), np.float32), (8, 8))
    message = deserialize_message(serialize_class_masks(result, Header(frame_id="lens"), 3), ClassMasks)
    assert (message.masks, message.labels, list(message.ids)) == ([], ["ball"], [1])
    assert (message.vocabulary_version, message.height, message.width) == (3, 8, 8)


def test_a_large_vocabulary_fits():
    count = 2000
    labels = tuple(f"thing {index}" for index in range(count))
    vocabulary = Vocabulary(labels, np.full(count, 0.5, np.float32), np.zeros((count, 4), np.float32), "0" * 64)
    maps = np.zeros((count, 4, 4), np.float32)
    maps[::100] = 1
    result, header = Result(vocabulary, maps, (13, 17)), Header(frame_id="lens")
    written = serialize_class_masks(result, header, 1)
    expected = serialize_message(MAKER.class_masks(result, header, 1))
    assert deserialize_message(written, ClassMasks) == deserialize_message(expected, ClassMasks)
