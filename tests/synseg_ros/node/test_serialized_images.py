"""Camera messages are read from their bytes as rclpy reads them, and damaged ones are named."""

import struct

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from synseg_ros.interfaces.image_encodings import FrameError, image_to_rgb
from synseg_ros.node.serialized_images import ReceivedImage, read_image
from synseg_ros.ros_messages import cdr_is_used

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(not cdr_is_used(), reason="this middleware has a serialisation of its own"),
]

FIELDS = ("header", "height", "width", "encoding", "is_bigendian", "step")
WORDS = ("", "a", "ab", "abc", "lens", "Köln", "交通", "x" * 77)


def random_message(random):
    """Make an Image of any fields, whether they fit together or not."""
    stamp = Time(sec=int(random.integers(-(2**31), 2**31)), nanosec=int(random.integers(0, 2**32)))
    frame_id, encoding = (WORDS[random.integers(0, len(WORDS))] for _ in range(2))
    height, width, step = (int(number) for number in random.integers(0, 2**32, 3))
    data = random.integers(0, 256, random.integers(0, 50), np.uint8).tolist()
    return Image(
        header=Header(stamp=stamp, frame_id=frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(random.integers(0, 256)),
        step=step,
        data=data,
    )


def fields_of(image):
    return [getattr(image, name) for name in FIELDS] + [bytes(image.data)]


def test_every_field_is_read_as_rclpy_reads_it():
    random = np.random.default_rng(3)
    for _ in range(300):
        serialized = bytes(serialize_message(random_message(random)))
        read = read_image(serialized)
        assert isinstance(read, ReceivedImage)
        assert fields_of(read) == fields_of(deserialize_message(serialized, Image))


def test_pixels_are_not_copied():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    message = Image(height=4, width=6, encoding="rgb8", step=18, data=pixels.tobytes())
    serialized = bytes(serialize_message(message))
    rgb = image_to_rgb(read_image(serialized))
    np.testing.assert_array_equal(rgb, pixels)
    assert np.shares_memory(rgb, np.frombuffer(serialized, np.uint8))


def test_every_message_that_is_cut_off_is_named():
    message = Image(header=Header(frame_id="lens"), height=2, width=1, encoding="mono8", step=1, data=b"ab")
    serialized = bytes(serialize_message(message))
    whole = serialized.index(b"ab") + 2
    for length in range(whole):
        with pytest.raises(FrameError, match=f"the message of {length} bytes is damaged or cut off"):
            read_image(serialized[:length])
    assert bytes(read_image(serialized[:whole]).data) == b"ab"


def test_bytes_of_any_kind_give_an_image_or_a_frame_error():
    random = np.random.default_rng(9)
    serialized = np.frombuffer(bytes(serialize_message(random_message(random))), np.uint8)
    for _ in range(500):
        damaged = serialized.copy()
        damaged[random.integers(4, len(damaged), 3)] = random.integers(0, 256, 3)
        try:
            image_to_rgb(read_image(damaged.tobytes()))
        except FrameError:
            continue


def test_the_other_order_of_bytes_is_read():
    serialized = struct.pack(">HHiII4sIII6sBxII2s", 0, 0, 5, 7, 4, b"cam", 1, 2, 6, b"mono8", 0, 2, 2, b"\7\x08")
    read = read_image(serialized)
    assert (read.header.stamp.sec, read.header.frame_id, read.height, read.width) == (5, "cam", 1, 2)
    assert (read.encoding, bytes(read.data)) == ("mono8", b"\7\x08")


def test_a_damaged_message_costs_its_frame_only_and_is_counted(make_rig, capfd):
    rig = make_rig()
    rig.connect()
    rig.ask("ball")
    rig.camera.publish(b"\0\1\0\0" + bytes(8) + b"\xff\xff\0\0")
    rig.bench.spin_until(lambda: rig.counts()["bad"] == 1, what="the damaged frame")
    rig.show_until(lambda: rig.counts()["idle"] >= 1, "a frame after it")
    assert "skipped a frame of /camera/image_raw: the message of" in capfd.readouterr().err
