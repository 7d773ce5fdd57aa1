"""What goes wrong on robots, with real processes: the node lives, and good frames keep flowing."""

import os
import signal
import time
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from diagnostic_msgs.msg import DiagnosticArray
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks, Vocabulary, VocabularyStatus

from synseg_ros.demo.processes import Child
from synseg_ros.interfaces.image_encodings import FORMATS
from synseg_ros.parameters.options import ros_arguments
from synseg_ros.qos import EVERY_MESSAGE, LATCHED
from synseg_ros.ros_messages import image_from_array

pytestmark = pytest.mark.ros

EXAMPLES = settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
GROWTH = 64e6  # bytes that a process may hold more after a thousand faults: caches, and what malloc keeps


class Robot:
    """A node as a process of its own, whose listener and camera is the test."""

    def __init__(self, bench):
        self.bench, self.children = bench, []
        self.statuses = bench.collect(VocabularyStatus, "/synseg/active_vocab", LATCHED)
        self.masks = bench.collect(ClassMasks, "/synseg/camera/masks", EVERY_MESSAGE)
        self.diagnostics = bench.collect(DiagnosticArray, "/diagnostics", EVERY_MESSAGE)
        self.camera = bench.node.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
        self.width = 80

    def start(self, module="synseg_ros.node", **parameters):
        self.children.append(Child(module, module, ros_arguments(parameters), os.environ))
        return self.children[-1]

    def start_node(self, **parameters):
        return self.start(engine="null", **{"labels": ["ball"], **parameters})

    def wait_for_masks(self, meanwhile=None):
        heard = len(self.masks)
        self.bench.spin_until(lambda: len(self.masks) > heard, meanwhile, what="masks")

    def show(self):
        pixels = np.zeros((60, self.width, 3), np.uint8)
        self.camera.publish(image_from_array(pixels, "rgb8", Header(frame_id="lens")))

    def good_frames_come_back(self):
        """Show frames of a width that no other had until the masks of one arrive."""
        self.width += 2
        self.bench.spin_until(lambda: self.masks and self.masks[-1].width == self.width, self.show, "a good frame")

    def count(self, kind):
        """Return the node's own count of frames, as it told last."""
        told = [pair.value for pair in self.diagnostics[-1].status[0].values if pair.key == f"frames {kind}"]
        return int(told[0]) if told else 0


@pytest.fixture
def robot(bench):
    robot = Robot(bench)
    yield robot
    for child in robot.children:
        child.stop()


def memory_of(child):
    return int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_camera_that_is_killed_and_restarted_is_seen_again(robot):
    robot.start_node()
    player = {"module": "synseg_ros.player", "width": 64, "height": 48}
    camera = robot.start(**player)
    robot.wait_for_masks()
    camera._process.kill()
    robot.bench.spin_until(lambda: camera.returncode is not None)
    robot.start(**player)
    robot.wait_for_masks()


def test_a_node_that_is_killed_has_its_labels_back_when_restarted(robot):
    node = robot.start(engine="null")
    speaker = robot.bench.node.create_publisher(Vocabulary, "/synseg/vocab", LATCHED)
    speaker.publish(Vocabulary(labels=["ball", "grass"]))
    robot.wait_for_masks(robot.show)
    node._process.kill()
    robot.bench.spin_until(lambda: node.returncode is not None)
    robot.masks.clear()
    robot.start(engine="null")
    robot.wait_for_masks(robot.show)
    assert list(robot.masks[-1].labels) == ["ball", "grass"]


def test_a_clock_that_jumps_back_stops_nothing(robot):
    clock = robot.bench.node.create_publisher(Clock, "/clock", QoSProfile(depth=1))
    seconds = chain(range(1000, 1020), count(5))

    def tick_and_show():
        message = Clock()
        message.clock.sec = next(seconds)
        clock.publish(message)
        robot.show()

    robot.start_node(use_sim_time=True)
    robot.wait_for_masks(tick_and_show)
    told = len(robot.diagnostics)
    for _ in range(30):
        robot.wait_for_masks(tick_and_show)
    robot.bench.spin_until(lambda: len(robot.diagnostics) > told + 1, tick_and_show, "diagnostics after the jump")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_inference_ends_the_node_within_two_seconds(robot, number):
    node = robot.start(engine="null:60000", labels=["ball"])
    robot.bench.spin_until(
        lambda: robot.diagnostics and robot.count("dropped"), robot.show, "a frame in the engine and one behind it"
    )
    began = time.monotonic()
    node._process.send_signal(number)
    robot.bench.spin_until(lambda: node.returncode is not None, what="its end")
    assert (node.returncode, time.monotonic() - began < 2.0) == (0, True)
    assert "Traceback" not in node.tail()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_is_loaded_ends_the_node_within_two_seconds(robot, tmp_path, number):
    config = tmp_path / "config.json"
    os.mkfifo(config)  # a disk that does not answer: who reads this waits for ever
    node = robot.start(model=str(tmp_path))

    disk = []

    def is_loading():
        assert node.returncode is None, node.tail()
        with suppress(OSError):  # nobody reads it yet
            disk.append(os.open(config, os.O_WRONLY | os.O_NONBLOCK))
        return disk

    robot.bench.spin_until(is_loading, what="the node to load its model")
    began = time.monotonic()
    node._process.send_signal(number)
    robot.bench.spin_until(lambda: node.returncode is not None, what="its end")
    os.close(*disk)
    assert (node.returncode, time.monotonic() - began < 2.0) == (0, True)
    assert "Traceback" not in node.tail()


def test_in_the_range_localhost_frames_arrive_where_both_sides_are_reliable(bench, monkeypatch):
    """Each frame of 640x480 is published once, and the next when the masks of the one before are there."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    local = type(bench)()
    topic = "/camera/image_raw"
    masks = local.collect(ClassMasks, "/synseg/camera/masks", EVERY_MESSAGE)
    camera = local.node.create_publisher(Image, topic, EVERY_MESSAGE)
    given = {"engine": "null", "labels": ["ball"], f"qos_overrides.{topic}.subscription.reliability": "reliable"}
    node = Child("node", "synseg_ros.node", ros_arguments(given), os.environ)
    image = image_from_array(np.zeros((480, 640, 3), np.uint8), "rgb8", Header())
    try:
        local.spin_until(lambda: masks, lambda: camera.publish(image), what="the first masks")
        for number in range(30):
            image.header.stamp.nanosec = number + 1
            camera.publish(image)
            local.spin_until(lambda: masks[-1].header.stamp.nanosec == image.header.stamp.nanosec, what="its masks")
        assert node.returncode is None
    finally:
        node.stop()
        local.close()


@st.composite
def corrupt_images(draw):
    """An image whose fields do not fit together, or bytes that are no message at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    unsigned = st.one_of(st.integers(0, 100), st.integers(0, 2**32 - 1))
    encoding = draw(st.one_of(st.sampled_from(sorted(FORMATS)), st.text(st.characters(exclude_categories=["Cs"]))))
    data = draw(st.binary(max_size=500))
    return Image(
        height=draw(unsigned), width=draw(unsigned), step=draw(unsigned), encoding=encoding, data=data,
        is_bigendian=draw(st.integers(0, 1)),
    )  # fmt: skip


@pytest.mark.slow
def test_a_thousand_corrupt_images_end_nothing_and_leave_no_memory_behind(robot):
    node = robot.start_node()
    robot.good_frames_come_back()
    before = memory_of(node)
    thrown = []

    @EXAMPLES
    @given(corrupt_images())
    def throw(message):
        robot.camera.publish(message)
        thrown.append(1)
        if len(thrown) % 50 == 0:
            robot.good_frames_come_back()

    throw()
    robot.good_frames_come_back()
    assert len(thrown) >= 1000
    robot.bench.spin_until(lambda: robot.count("bad") > 0, what="a count of bad frames")
    assert node.returncode is None
    assert memory_of(node) - before < GROWTH


LABEL = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["", " ", "\x00", "\u202e", "\x1b[31m", "🦆", "שלום", "ظبي", "a" * 5000, "ball\n\tbat", "é" * 80]),
)
THRESHOLD = st.floats(width=32)  # not a number and infinite ones among them


@pytest.mark.slow
def test_a_thousand_random_vocabularies_are_answered_and_leave_no_memory_behind(robot):
    node = robot.start_node()
    speaker = robot.bench.node.create_publisher(Vocabulary, "/synseg/vocab", EVERY_MESSAGE)
    robot.good_frames_come_back()
    before, asked = memory_of(node), []

    @EXAMPLES
    @given(st.lists(LABEL, max_size=8), st.lists(THRESHOLD, max_size=8))
    @example(["x" * 10**7], [])
    @example(["ball"] * 100_000, [])
    @example([f"label {index}" for index in range(100_000)], [])
    @example(["ball"], [float("nan")])
    def ask(labels, thresholds):
        heard = len(robot.statuses)
        speaker.publish(Vocabulary(labels=labels, thresholds=thresholds))
        robot.bench.spin_until(lambda: len(robot.statuses) > heard, what=f"an answer to {labels!r:.200}")
        asked.append(1)
        if len(asked) % 100 == 0:
            robot.good_frames_come_back()
        del robot.statuses[:-1]

    ask()
    assert len(asked) >= 1000
    robot.good_frames_come_back()
    assert node.returncode is None
    assert memory_of(node) - before < GROWTH
