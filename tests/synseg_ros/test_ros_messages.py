"""ROS's own images are read and made without detours."""

import array

import numpy as np
import pytest

pytest.importorskip("synseg_ros.msg", reason="needs ROS 2 and the built messages: use scripts/with_env")

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from synseg_ros.interfaces.image_encodings import image_to_array, image_to_rgb
from synseg_ros.ros_messages import image_from_array, sequence

pytestmark = pytest.mark.ros

RNG = np.random.default_rng(3)
RGB8 = RNG.integers(0, 256, (12, 18, 3), np.uint8)
SAMPLES = {
    "rgb8": RGB8,
    "mono8": RGB8[..., 0],
    "mono16": RNG.integers(0, 65536, (12, 18), np.uint16),
    "bgra16": RNG.integers(0, 65536, (12, 18, 4), np.uint16),
}


@pytest.mark.parametrize("encoding", SAMPLES)
def test_an_array_survives_the_way_through_a_message(encoding):
    samples = SAMPLES[encoding][:, ::-1]
    message = image_from_array(samples, encoding, Header(frame_id="lens"))
    assert isinstance(message, Image) and message.header.frame_id == "lens"
    np.testing.assert_array_equal(image_to_array(message), samples)


@pytest.mark.parametrize("padding", [0, 5])
def test_rgb8_is_not_copied(padding):
    rows = np.pad(RGB8.reshape(12, -1), ((0, 0), (0, padding)))
    message = Image(height=12, width=18, encoding="rgb8", step=54 + padding, data=array.array("B", rows.tobytes()))
    image = image_to_rgb(message)
    np.testing.assert_array_equal(image, RGB8)
    assert np.shares_memory(image, np.frombuffer(message.data, np.uint8))


def test_an_array_of_another_encoding_is_refused():
    with pytest.raises(ValueError, match="not an image of encoding 'mono8'"):
        image_from_array(RGB8, "mono8", Header())


@pytest.mark.parametrize("values", [np.arange(5, dtype=np.uint8), np.zeros(0, np.uint8), np.ones(3, np.float32)])
def test_numbers_become_what_messages_take_over(values):
    made = sequence(values)
    assert isinstance(made, array.array) and made.tolist() == values.tolist()
