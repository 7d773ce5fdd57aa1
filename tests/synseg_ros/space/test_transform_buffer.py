"""Transforms between frames at a time: interpolated, never extrapolated, and never more than a bounded number."""

import threading

import numpy as np
import pytest

from synseg_model.instances import transform_matrix
from synseg_ros.space.transform_buffer import MOST_PER_FRAME, TransformBuffer, TransformError

S = 10**9
NO_TURN, QUARTER = (0, 0, 0, 1), (0, 0, np.sqrt(0.5), np.sqrt(0.5))


@pytest.fixture
def buffer():
    buffer = TransformBuffer()
    buffer.add("base", "mast", 0, (0, 0, 1), NO_TURN, static=True)
    buffer.add("mast", "lens", 0, (0.1, 0, 0), QUARTER, static=True)
    for second in range(5):
        buffer.add("map", "base", second * S, (second, 0, 0), NO_TURN)
    return buffer


def place(matrix, point=(0, 0, 0)):
    return (matrix @ [*point, 1])[:3].tolist()


def test_static_transforms_hold_at_all_times_in_both_directions(buffer):
    for stamp in (0, 99 * S):
        assert place(buffer.lookup("base", "lens", stamp), (1, 0, 0)) == pytest.approx([0.1, 1, 1])
        assert place(buffer.lookup("lens", "base", stamp), (0.1, 1, 1)) == pytest.approx([1, 0, 0])


def test_a_moving_frame_is_interpolated(buffer):
    assert place(buffer.lookup("map", "lens", round(2.25 * S))) == pytest.approx([2.35, 0, 1])
    assert place(buffer.lookup("map", "base", 3 * S)) == pytest.approx([3, 0, 0])


def test_a_turn_is_interpolated_at_constant_speed_the_short_way_round():
    buffer = TransformBuffer()
    buffer.add("a", "b", 0, (0, 0, 0), NO_TURN)
    buffer.add("a", "b", S, (0, 0, 0), tuple(-np.array(QUARTER)))
    for share in (0.25, 0.5, 0.9):
        angle = share * np.pi / 2
        found = buffer.lookup("a", "b", round(share * S))
        assert found == pytest.approx(transform_matrix((0, 0, np.sin(angle / 2), np.cos(angle / 2)), (0, 0, 0)))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("map", "lens", 5 * S), "the newest transform of 'base' is 1.000 s older than the image"),
        (("lens", "map", 5 * S), "the newest transform of 'base' is 1.000 s older than the image"),
        (("map", "lens", -S // 2), "the oldest transform of 'base' is 0.500 s newer than the image"),
        (("map", "nose", S), "no transform of the frame 'nose' has arrived"),
        (("odom", "lens", S), "no transform of the frame 'odom' has arrived"),
        (("other", "lens", S), "the frames 'lens' and 'other' are not connected"),
    ],
)
def test_what_is_not_known_is_refused_with_the_reason(buffer, asked, reason):
    buffer.add("world", "other", 0, (0, 0, 0), NO_TURN, static=True)
    with pytest.raises(TransformError) as error:
        buffer.lookup(*asked)
    assert str(error.value) == reason


def test_a_transform_that_is_a_little_late_is_waited_for(buffer):
    came = threading.Timer(0.05, lambda: buffer.add("map", "base", 5 * S, (5, 0, 0), NO_TURN))
    came.start()
    assert place(buffer.lookup("map", "base", round(4.5 * S), timeout=30.0)) == pytest.approx([4.5, 0, 0])
    came.join()


def test_a_circle_of_frames_is_refused():
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.add(parent, child, 0, (0, 0, 0), NO_TURN, static=True)
    with pytest.raises(TransformError, match="circle"):
        buffer.lookup("a", "z", 0)


@pytest.mark.parametrize(
    ("parent", "child", "translation", "quaternion"),
    [
        ("", "b", (0, 0, 0), NO_TURN),
        ("a", "a", (0, 0, 0), NO_TURN),
        ("/a", "a", (0, 0, 0), NO_TURN),
        ("a", "b", (0, np.nan, 0), NO_TURN),
        ("a", "b", (0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_a_bad_transform_is_refused_and_not_kept(parent, child, translation, quaternion):
    buffer = TransformBuffer()
    with pytest.raises(ValueError, match="expected"):
        buffer.add(parent, child, 0, translation, quaternion)
    assert len(buffer) == 0


def test_the_memory_is_bounded():
    buffer = TransformBuffer()
    for number in range(3 * MOST_PER_FRAME):
        buffer.add("map", "base", number, (0, 0, 0), NO_TURN)
    assert len(buffer) == MOST_PER_FRAME
    buffer.add("map", "base", 60 * S, (0, 0, 0), NO_TURN)
    assert len(buffer) == 1


def test_a_recording_that_begins_again_replaces_what_was(buffer):
    for second in (100, 101, 2, 3):
        buffer.add("map", "base", second * S, (-second, 0, 0), NO_TURN)
    assert place(buffer.lookup("map", "base", round(2.5 * S))) == pytest.approx([-2.5, 0, 0])


def test_transforms_out_of_order_are_put_in_order():
    buffer = TransformBuffer()
    for second in (0, 2, 1):
        buffer.add("map", "base", second * S, (second**2, 0, 0), NO_TURN)
    assert place(buffer.lookup("map", "base", round(1.5 * S))) == pytest.approx([2.5, 0, 0])
