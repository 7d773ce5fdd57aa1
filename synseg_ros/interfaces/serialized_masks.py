"""ClassMasks of mono8 masks, written as the bytes that travel: CDR, as DDS and Zenoh middlewares have it.

A message object holds five others for each mask. Making them and walking through them again takes longer than copying
the pixels: on a robot's thread, whose caches other work has emptied, 0.7 ms for four masks instead of 0.4 ms.

CDR writes fields in their order. A number starts at a multiple of its size; texts and sequences begin with their
length, and the length of a text counts a zero byte at its end. Here everything is made of blocks of a multiple of four
bytes, so that blocks can be made on their own and joined once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from synseg_model.result import Cutout, Result
from synseg_ros.interfaces.mask_kinds import MONO8

_LITTLE_ENDIAN = b"\0\1\0\0"  # what every serialised message begins with
_STAMP, _NUMBERS = struct.Struct("<iI"), struct.Struct("<III")
_MEASURES = struct.Struct("<ffIIIII?3x")  # score, presence, area, and roi: x, y, height, width, do_rectify
_IMAGE = struct.Struct("<III6s?xII")  # height, width, encoding, is_bigendian, step, number of bytes


def serialize_class_masks(result: Result, header: Any, version: int) -> bytes:
    """Write the ClassMasks of one frame, as `MessageMaker.class_masks` makes it with mono8 masks.

    Args:
        result: What was found in the image.
        header: Header of the frame, of any library's class.
        version: Version of the vocabulary.

    Returns:
        The serialised message, which `rclpy.publisher.Publisher.publish` takes.

    Raises:
        struct.error: A number does not fit its field.

    Example:
        >>> publisher.publish(serialize_class_masks(result, message.header, version=1))
    """
    stamp = header.stamp
    head = _STAMP.pack(stamp.sec, stamp.nanosec) + _text(header.frame_id)
    labels, beginnings = _vocabulary(result.labels, result.ids)
    blocks = [_LITTLE_ENDIAN, head, _NUMBERS.pack(version, *result.shape), labels, b""]
    count = 0
    for count, cutout in enumerate(result.cutouts(), 1):  # noqa: B007
        blocks += (beginnings[cutout.index], *_mask(cutout, float(result.presence[cutout.index]), head))
    blocks[4] = struct.pack("<I", count)
    return b"".join(blocks)


def _mask(cutout: Cutout, presence: float, head: bytes) -> tuple[bytes | memoryview, ...]:
    """Write one ClassMask, from its score on."""
    x, y, width, height = cutout.roi
    return (
        _MEASURES.pack(cutout.score, presence, cutout.area, x, y, height, width, False),
        head,
        _IMAGE.pack(height, width, 6, b"mono8", False, width, cutout.mask.size),
        cutout.mask.data,
        bytes(-cutout.mask.size % 4),
        _MASK_ENCODING,
        head,
        _NO_FILE_NO_RUNS,
    )


@lru_cache(maxsize=4)
def _vocabulary(labels: Sequence[str], ids: Sequence[int]) -> tuple[bytes, list[bytes]]:
    """Write the labels and ids of a frame, and of each label what its ClassMask begins with."""
    texts = [_text(label) for label in labels]
    count = struct.pack("<I", len(labels))
    numbers = _whole(struct.pack(f"<I{len(ids)}H", len(ids), *ids))
    beginnings = [struct.pack("<H2x", number) + text for number, text in zip(ids, texts, strict=True)]
    return b"".join((count, *texts, numbers)), beginnings


def _text(text: str) -> bytes:
    data = text.encode()
    return _whole(struct.pack("<I", len(data) + 1) + data + b"\0")


def _whole(data: bytes) -> bytes:
    """Fill a block up to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


_MASK_ENCODING = _text(MONO8)
_NO_FILE_NO_RUNS = _text("") + struct.pack("<II", 0, 0)  # the rest of mask_png, behind its header, and mask_rle
