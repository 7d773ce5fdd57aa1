"""Images and results as messages of rclpy's own classes."""

from __future__ import annotations

import array
from functools import cache
from importlib import import_module

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header, UInt32

from synseg_ros.interfaces.message_maker import MESSAGES, MessageMaker
from synseg_ros.interfaces.object_messages import ObjectMessageMaker
from synseg_ros.interfaces.optional_types import required_type


def sequence(values: np.ndarray) -> array.array:
    """Copy numbers into an array.array, which rclpy's messages take over as it is.

    rclpy would check and copy bytes, lists and numpy arrays element by element.

    Args:
        values: (N) uint8, uint16, uint32 or float32.
    """
    copied = array.array(values.dtype.char)
    copied.frombytes(memoryview(values).cast("B") if values.size else b"")
    return copied


MAKER = MessageMaker(
    {name: getattr(import_module(f"{package}.msg"), name) for package, names in MESSAGES.items() for name in names},
    sequence,
)
OBJECT_MAKER = ObjectMessageMaker(required_type, sequence)


def image_from_array(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Build a sensor_msgs/Image without padding.

    Args:
        pixels: (H, W) or (H, W, C) uint8 or uint16 samples.
        encoding: A packed encoding with the channels and the depth of the array, such as "rgb8".
        header: Header of the image.

    Raises:
        ValueError: The encoding does not fit the array.
    """
    return MAKER.image(pixels, encoding, header)


@cache
def cdr_is_used() -> bool:
    """Tell whether the middleware in use serialises messages as little-endian CDR, so that it takes such bytes."""
    return bytes(serialize_message(UInt32(data=0x04030201))) == b"\0\1\0\0\1\2\3\4"
