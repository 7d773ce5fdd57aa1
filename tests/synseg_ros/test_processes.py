"""Camera, node and listener as processes of their own, over DDS: what arrives is what was promised."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import combinations

import cv2
import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")
from sensor_msgs.msg import CameraInfo, Image
from synseg_ros.msg import ClassMasks, FrameInfo, Vocabulary, VocabularyStatus

from synseg_model import Segmenter
from synseg_ros.demo.processes import Child
from synseg_ros.interfaces.image_encodings import image_to_array
from synseg_ros.parameters.options import ros_arguments
from synseg_ros.qos import EVERY_MESSAGE, EVERY_MESSAGE_SO_FAR, LATCHED

pytestmark = pytest.mark.ros

VOCABULARIES = (("ball", "red cube"), ("grass", "sky", "ball"), ("cube", "dog"), ("road",))
NODE = "synseg_ros.node"
WRONG_START = 2


@pytest.fixture
def start():
    """Start a module as a process; all are ended after the test."""
    children = []

    def start_module(module, node_name=None, **parameters):
        arguments = ros_arguments(parameters) + (["-r", f"__node:={node_name}"] if node_name else [])
        children.append(Child(module, module, arguments, os.environ))
        return children[-1]

    yield start_module
    for child in children:
        child.stop()


@pytest.fixture
def image(tmp_path):
    """A file with an image of soft coloured clouds."""
    rng = np.random.default_rng(1)
    pixels = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), pixels)
    return path


class Listener:
    """The listening process, which is the test's own."""

    def __init__(self, bench):
        self.bench = bench
        self.speaker = bench.node.create_publisher(Vocabulary, "/synseg/vocab", LATCHED)
        self.statuses = bench.collect(VocabularyStatus, "/synseg/active_vocab", LATCHED)
        self.sent = bench.collect(CameraInfo, "/camera/camera_info", EVERY_MESSAGE_SO_FAR)
        self.masks = bench.collect(ClassMasks, "/synseg/camera/masks", EVERY_MESSAGE)
        self.infos = bench.collect(FrameInfo, "/synseg/camera/info", EVERY_MESSAGE)
        self.label_maps = bench.collect(Image, "/synseg/camera/label_map", EVERY_MESSAGE)

    def answer(self, topic):
        """Tell the camera which frames' masks have arrived: the listener may be connected later than the node."""
        answers = self.bench.node.create_publisher(FrameInfo, topic, EVERY_MESSAGE)

        def heard(message):
            answers.publish(FrameInfo(header=message.header))

        self.bench.node.create_subscription(ClassMasks, "/synseg/camera/masks", heard, EVERY_MESSAGE)

    def ask(self, labels):
        self.speaker.publish(Vocabulary(labels=list(labels)))

    def publishers(self, topic):
        """Return the names of the nodes that publish a topic."""
        return {info.node_name for info in self.bench.node.get_publishers_info_by_topic(topic)}

    def wait_for_masks(self, labels, count=3):
        """Wait until count more masks with these labels have arrived."""
        begin = len(self.masks)
        self.bench.spin_until(
            lambda: sum(tuple(masks.labels) == labels for masks in self.masks[begin:]) >= count,
            what=f"masks for {labels}",
        )


@pytest.fixture
def listener(bench):
    return Listener(bench)


def stamp_of(message):
    return message.header.stamp.sec, message.header.stamp.nanosec


def stack_of(message):
    """Paste the cropped masks of a message into one (K, H, W) bool array."""
    stack = np.zeros((len(message.labels), message.height, message.width), bool)
    for mask in message.masks:
        rows = slice(mask.roi.y_offset, mask.roi.y_offset + mask.roi.height)
        columns = slice(mask.roi.x_offset, mask.roi.x_offset + mask.roi.width)
        stack[list(message.ids).index(mask.id), rows, columns] = image_to_array(mask.mask) == 255
    return stack


def agreement(found, expected):
    return np.mean(found == expected) if found.shape == expected.shape else 0.0


@pytest.mark.slow
def test_masks_have_their_frames_stamp_and_the_announced_vocabulary(start, listener, random_model, image):
    expected = {}
    segmenter = Segmenter.load(random_model)
    for labels in VOCABULARIES:
        segmenter.set_vocabulary(labels)
        expected[labels] = segmenter.segment(cv2.imread(str(image))[..., ::-1]).masks
    assert max(agreement(expected[a], expected[b]) for a, b in combinations(VOCABULARIES, 2)) < 0.95
    start("synseg_ros.node", model=str(random_model))
    start("synseg_ros.player", source=str(image), fps=20.0)
    order = (*VOCABULARIES, *reversed(VOCABULARIES[:-1]))
    for labels in order:  # each while frames of the one before are under way
        listener.ask(labels)
        listener.wait_for_masks(labels)
    announced = {status.version: tuple(status.labels) for status in listener.statuses if status.version}
    assert list(announced.values()) == list(order)
    received = set(map(stamp_of, listener.masks))
    listener.bench.spin_until(lambda: received <= set(map(stamp_of, listener.sent)), what="the frames' stamps")
    versions = {stamp_of(info): info.vocabulary_version for info in listener.infos}
    ids = {status.version: {0, *status.ids} for status in listener.statuses}
    assert len(listener.masks) >= 3 * len(order)
    for message in [message for message in listener.masks if stamp_of(message) in received]:
        labels = announced[message.vocabulary_version]
        assert message.header.frame_id == "camera"
        assert tuple(message.labels) == labels
        assert versions.get(stamp_of(message), message.vocabulary_version) == message.vocabulary_version
        for mask in message.masks:
            assert (mask.label, mask.id) in zip(labels, message.ids, strict=True)
            assert stamp_of(mask.mask) == stamp_of(message)
        # The image stands still, so its masks tell which vocabulary they were really made with.
        assert agreement(stack_of(message), expected[labels]) > 0.99
    for image in listener.label_maps:
        if stamp_of(image) in versions:
            assert set(np.unique(image_to_array(image)).tolist()) <= ids[versions[stamp_of(image)]]
    by_stamp = [message.vocabulary_version for message in sorted(listener.masks, key=stamp_of)]
    assert by_stamp == sorted(by_stamp)


def test_a_folder_is_played_frame_by_frame_without_a_loss(start, listener, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(12):
        assert cv2.imwrite(str(folder / f"{index}.png"), np.full((60, 80 + index, 3), 20 * index, np.uint8))
    start(NODE, engine="null", labels=["ball"])
    camera = start("synseg_ros.player", source=str(folder), loop=False, wait_for="/heard")
    listener.answer("/heard")
    listener.bench.spin_until(lambda: len({m.width for m in listener.masks}) == 12, what="all frames")
    listener.bench.spin_until(lambda: camera.returncode is not None, what="the camera's end")
    assert camera.returncode == 0
    widths = list(dict.fromkeys(message.width for message in sorted(listener.masks, key=stamp_of)))
    assert widths == [80 + index for index in range(12)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_without_a_traceback(start, listener, number):
    node = start(NODE, engine="null", labels=["ball"])
    listener.bench.spin_until(lambda: any(status.version for status in listener.statuses), what="the node")
    node._process.send_signal(number)
    listener.bench.spin_until(lambda: node.returncode is not None, what="its end")
    assert node.returncode == 0
    assert "Traceback" not in node.tail()


@pytest.mark.parametrize("module", [NODE, "synseg_ros.player"])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("milliseconds", [0, 30, 200])
def test_a_second_signal_does_not_break_into_the_ending(start, listener, module, first, milliseconds):
    parameters = {"engine": "null", "labels": ["ball"]} if module == NODE else {"width": 64, "height": 48}
    topic = "/synseg/active_vocab" if module == NODE else "/camera/image_raw"
    name = f"ended_by_{first.name}_and_{milliseconds}"  # others may be listed: of killed processes, for a while
    process = start(module, node_name=name, **parameters)
    listener.bench.spin_until(lambda: name in listener.publishers(topic), what="the process")
    process._process.send_signal(first)
    for _ in range(3):
        with suppress(subprocess.TimeoutExpired):  # whether it has ended meanwhile is no matter
            process._process.wait(milliseconds / 1000)
        process._process.send_signal(signal.SIGINT)
    listener.bench.spin_until(lambda: process.returncode is not None, what="its end")
    assert (process.returncode, "Traceback" in process.tail()) == (0, False), process.tail()


def run_module(module, **parameters):
    command = [sys.executable, "-m", module, *ros_arguments(parameters)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def corrupt(folder, random_model, name):
    folder.mkdir()
    for file in random_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes()[:100] if file.name == name else file.read_bytes())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "weights.safetensors"])
def test_a_missing_or_corrupt_model_ends_the_node_with_one_clear_line(tmp_path, random_model, damage):
    folder = tmp_path / "model"
    if damage != "missing":
        corrupt(folder, random_model, damage)
    ended = run_module("synseg_ros.node", model=str(folder))
    assert ended.returncode == WRONG_START
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "[synseg]: cannot be configured: " in lines[0]
    assert str(folder) in lines[0]


@pytest.mark.parametrize(
    ("module", "parameters", "reason"),
    [
        ("synseg_ros.node", {"threshold": 7.5}, "threshold"),
        ("synseg_ros.node", {"engine": "steam"}, "steam"),
        ("synseg_ros.node", {"transport": "pigeon"}, "pigeon"),
        ("synseg_ros.node", {"label_thresholds": ["ball=2"]}, "ball=2"),
        ("synseg_ros.player", {"source": "/no/such/folder"}, "/no/such/folder"),
        ("synseg_ros.player", {"width": 1}, "width"),
    ],
)
def test_a_parameter_that_cannot_work_ends_a_process_with_one_clear_line(module, parameters, reason):
    ended = run_module(module, **parameters)
    assert ended.returncode == WRONG_START
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1
    assert reason in lines[0]


@pytest.mark.parametrize("module", ["synseg_ros.node", "synseg_ros.player"])
def test_an_argument_that_ros_cannot_read_ends_a_process_with_its_reason(module):
    command = [sys.executable, "-m", module, "--ros-args", "--params-file", "/no/such.yaml"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == WRONG_START
    *before, last = ended.stderr.strip().splitlines()
    assert "/no/such.yaml" in last
    assert all("[rcl]" in line for line in before)  # ROS's own word on it
