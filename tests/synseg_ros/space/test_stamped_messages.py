"""The message that belongs to a frame is found by its stamp, or there is a reason why not."""

import threading
from types import SimpleNamespace

import pytest

from synseg_ros.space.stamped_messages import NS, StampedMessages


def message(seconds):
    nanoseconds = round(seconds * NS)
    stamp = SimpleNamespace(sec=nanoseconds // NS, nanosec=nanoseconds % NS)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), seconds=seconds)


@pytest.fixture
def messages():
    messages = StampedMessages("depth image", most=3)
    for seconds in (10.0, 10.1, 10.2):
        messages.add(message(seconds))
    return messages


def test_the_nearest_within_the_tolerance_is_found(messages):
    assert messages.nearest(round(10.12 * NS), 0.03).seconds == 10.1
    assert messages.nearest(round(10.16 * NS), 0.05).seconds == 10.2


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (10.5, "no depth image within 0.03 s of the image: the nearest is 0.300 s older"),
        (9.0, "no depth image within 0.03 s of the image: the nearest is 1.000 s newer"),
    ],
)
def test_what_is_too_far_is_never_given_out(messages, seconds, reason):
    assert messages.nearest(round(seconds * NS), 0.03) == reason


def test_nothing_has_arrived():
    assert StampedMessages("depth image", most=3).nearest(NS, 0.03, timeout=60.0) == "no depth image has arrived"


def test_a_late_message_is_waited_for(messages):
    came = threading.Timer(0.05, lambda: messages.add(message(10.3)))
    came.start()
    assert messages.nearest(round(10.3 * NS), 0.03, timeout=30.0).seconds == 10.3
    came.join()


def test_only_the_newest_are_kept(messages):
    messages.add(message(10.3))
    assert len(messages) == 3
    assert isinstance(messages.nearest(10 * NS, 0.03), str)


def test_a_recording_that_begins_again_replaces_what_was():
    messages = StampedMessages("depth image", most=9)
    for seconds in (100.0, 100.1, 5.0):
        messages.add(message(seconds))
    assert len(messages) == 1
    assert messages.newest().seconds == 5.0
