"""A camera's sensor_msgs/Image, read from the bytes in which it arrives.

rclpy would copy the pixels twice more on their way into a message object. The layout of the bytes (CDR) is described in
`synseg_ros.interfaces.serialized_masks`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from synseg_ros.interfaces.image_encodings import FrameError

_LITTLE_ENDIAN = b"\0\1"
_STAMP, _SIZE, _LENGTH = struct.Struct("<iI"), struct.Struct("<II"), struct.Struct("<I")


@dataclass(frozen=True)
class ReceivedImage:
    """The fields of a sensor_msgs/Image; `data` is a view of the bytes that arrived, which cannot be written."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def read_image(serialized: bytes) -> ReceivedImage | Image:
    """Read a serialised sensor_msgs/Image without a copy of its pixels.

    Args:
        serialized: What a subscription with `raw=True` gets.

    Returns:
        The image. It is rclpy's own message where the bytes are not little-endian CDR.

    Raises:
        FrameError: The bytes are not a whole sensor_msgs/Image.

    Example:
        >>> image_to_rgb(read_image(serialized)).shape
        (480, 640, 3)
    """
    try:
        return _read(serialized) if serialized.startswith(_LITTLE_ENDIAN) else deserialize_message(serialized, Image)
    except Exception as error:  # a middleware raises errors of its own
        raise FrameError(
            f"the message of {len(serialized)} bytes is damaged or cut off ({error}); expected a whole "
            "sensor_msgs/msg/Image"
        ) from None


def _read(serialized: bytes) -> ReceivedImage:
    second, nanosecond = _STAMP.unpack_from(serialized, 4)
    frame_id, at = _text(serialized, 12)
    height, width = _SIZE.unpack_from(serialized, at)
    encoding, at = _text(serialized, at + 8, padded=False)
    is_bigendian = serialized[at]
    step, length = _SIZE.unpack_from(serialized, _aligned(at + 1))
    begin = _aligned(at + 1) + 8
    if begin + length > len(serialized):
        raise ValueError(f"its data of {length} bytes begins at byte {begin}")
    header = Header(stamp=Time(sec=second, nanosec=nanosecond), frame_id=frame_id)
    data = memoryview(serialized)[begin : begin + length]
    return ReceivedImage(header, height, width, encoding, is_bigendian, step, data)


def _text(serialized: bytes, at: int, padded: bool = True) -> tuple[str, int]:
    """Read a text, to its first zero byte as rclpy does; return also where the next field begins."""
    (length,) = _LENGTH.unpack_from(serialized, at)
    end = at + 4 + length
    if end > len(serialized):
        raise ValueError(f"a text of {length} bytes begins at byte {at + 4}")
    text = serialized[at + 4 : end].partition(b"\0")[0].decode("utf-8", "replace")
    return text, _aligned(end) if padded else end


def _aligned(at: int) -> int:
    return at + -at % 4
