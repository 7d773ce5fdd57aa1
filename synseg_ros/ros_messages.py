"""ROS's own message classes for what synseg_model makes: images and results."""

from __future__ import annotations

import array
from importlib import import_module

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from synseg_ros.interfaces.message_maker import MESSAGES, MessageMaker


def sequence(values: np.ndarray) -> array.array:
    """Copy (N) numbers into an array.array, which messages take over as it is.

    Bytes, lists and numpy arrays would be checked and copied element by element.
    """
    copied = array.array(values.dtype.char)
    copied.frombytes(memoryview(values).cast("B") if values.size else b"")
    return copied


MAKER = MessageMaker(
    {name: getattr(import_module(f"{package}.msg"), name) for package, names in MESSAGES.items() for name in names},
    sequence,
)


def image_from_array(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Build a sensor_msgs/Image without padding from (H, W) or (H, W, C) uint8 or uint16 samples.

    encoding must be a packed one whose channels and depth are those of the array; else ValueError.
    """
    return MAKER.image(pixels, encoding, header)
