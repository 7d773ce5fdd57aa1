"""Files that hold something else than ROS 2 messages are called by what they hold."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags: the extra bag")

from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from synseg_ros.bags.message_types import IMAGE
from tests.synseg_ros.bags.recordings import FRONT, START, TYPES, front_frame, read, refused, run


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def mcap(path, profile, schema, encoding, message):
    """Write an MCAP file with one topic and one message, as the tools of another system do."""

    def record(code, content):
        return struct.pack("<BQ", code, len(content)) + content

    name, schema_encoding, data = schema
    parts = [
        record(0x01, text(profile) + text("tool")),
        record(0x03, struct.pack("<H", 1) + text(name) + text(schema_encoding) + struct.pack("<I", len(data)) + data),
        record(0x04, struct.pack("<HH", 0, 1) + text(FRONT) + text(encoding) + struct.pack("<I", 0)),
        record(0x05, struct.pack("<HIQQ", 0, 0, START, START) + bytes(message)),
        record(0x0F, struct.pack("<I", 0)),
        record(0x02, bytes(20)),
    ]
    magic = b"\x89MCAP0\r\n"
    path.write_bytes(magic + b"".join(parts) + magic)
    return path


IMAGE_TEXT = TYPES.describe(IMAGE)[0].encode()


@pytest.mark.parametrize(
    ("profile", "schema", "encoding", "words"),
    [
        ("ros1", ("sensor_msgs/Image", "ros1msg", b"x"), "ros1", ["ROS 1 messages", "rosbags-convert --src"]),
        ("", ("sensor_msgs/Image", "ros1msg", b"x"), "ros1", ["ROS 1 messages", "rosbags-convert --src"]),
        ("", ("foxglove.CompressedImage", "protobuf", b"x"), "protobuf", ["protobuf", "foxglove.CompressedImage"]),
        ("px4", ("Image", "jsonschema", b"{}"), "json", ["json messages (Image)", "sensor_msgs/msg/CompressedImage"]),
    ],
)
def test_recordings_of_other_systems_are_called_by_what_they_hold(tmp_path, capsys, profile, schema, encoding, words):
    source = mcap(tmp_path / "in.mcap", profile, schema, encoding, b"message")
    said = refused(capsys, source, tmp_path / "out")
    assert str(source) in said and all(word in said for word in words)
    assert "damaged" not in said
    folder = tmp_path / "folder"
    folder.mkdir()
    source.rename(folder / "in.mcap")
    assert run(folder, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert words[0] in said and "damaged" not in said


def test_ros_2_messages_in_a_file_that_does_not_say_so_are_read(tmp_path, capsys):
    source = mcap(tmp_path / "in.mcap", "", (IMAGE, "ros2msg", IMAGE_TEXT), "cdr", TYPES.encode(front_frame(0)))
    assert run(source, tmp_path / "out") == 0
    assert "damaged" not in capsys.readouterr().err
    assert len(read(tmp_path / "out")["/synseg/front/masks"]) == 1


def test_a_ros_1_bag_is_called_so_with_the_command_that_converts_it(tmp_path, capsys):
    source = tmp_path / "my drive.bag"
    source.write_bytes(b"#ROSBAG V2.0\n")
    assert f"is not a rosbag2 but a bag of ROS 1. Convert it: rosbags-convert --src '{source}'" in refused(
        capsys, source, tmp_path / "out"
    )


def test_a_converted_bag_of_ros_1_is_segmented(tmp_path):
    types = get_typestore(Stores.ROS1_NOETIC)
    header = types.types["std_msgs/msg/Header"](7, types.types["builtin_interfaces/msg/Time"](5, 600), "front_camera")
    pixels = np.zeros(48 * 64 * 3, np.uint8)
    image = types.types[IMAGE](header, 48, 64, "rgb8", 0, 192, pixels)
    with Writer(tmp_path / "drive.bag") as bag:
        topic = bag.add_connection(FRONT, IMAGE, typestore=types)
        bag.write(topic, START, types.serialize_ros1(image, IMAGE))
    convert = Path(sys.executable).with_name("rosbags-convert")  # as the error of a bag of ROS 1 says
    subprocess.run([convert, "--src", tmp_path / "drive.bag", "--dst", tmp_path / "drive"], check=True)
    assert run(tmp_path / "drive", tmp_path / "out") == 0
    ((time, masks),) = read(tmp_path / "out")["/synseg/front/masks"]
    assert (time, masks.header.stamp.sec, masks.header.stamp.nanosec) == (START, 5, 600)
    assert (masks.header.frame_id, masks.height, masks.width) == ("front_camera", 48, 64)
