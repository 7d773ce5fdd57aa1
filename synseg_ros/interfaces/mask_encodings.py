"""The masks of ClassMask and Instance: encoded in one of three ways, and read back whichever it is.

* mono8: a sensor_msgs/Image. Every consumer reads it; it has a byte per pixel.
* png: a PNG file of one bit per pixel. OpenCV, Pillow and cv_bridge read it.
* rle: the lengths of runs, as COCO's uncompressed RLE has them. It needs no decoder but a loop.

All are lossless. `read_mask` and `mask_in_frame` read all of them, with any library's classes.
"""

from __future__ import annotations

import io
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image

from synseg_ros.interfaces.image_encodings import CompressedMessage, FrameError, ImageMessage, image_to_array
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS, MONO8, PNG, RLE

PNG_FORMAT = "mono8; png compressed mono8"  # as image_transport names it
_PNG_BEGIN, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG file
# Runs of zlib's own: as small as level 3 on masks, in half the time.
_PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_BILEVEL, 1),
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


class MaskMessage(Protocol):
    """A ClassMask or an Instance, as far as its mask is read here."""

    label: str
    roi: Any
    mask: ImageMessage
    mask_encoding: str
    mask_png: CompressedMessage
    mask_rle: Any


def check_mask_encoding(encoding: str) -> None:
    """Check the name of an encoding.

    Args:
        encoding: The name.

    Raises:
        ValueError: It is not one of MASK_ENCODINGS.
    """
    if encoding not in MASK_ENCODINGS:
        raise ValueError(f"mask encoding {encoding!r} is unknown; accepted: {', '.join(MASK_ENCODINGS)}")


def encode_png(pixels: np.ndarray) -> np.ndarray:
    """Encode a mask as a PNG file of one bit per pixel.

    Args:
        pixels: (h, w) uint8, 0 or 255, not empty.

    Returns:
        (N,) uint8.
    """
    return cv2.imencode(".png", pixels, _PNG_OPTIONS)[1].reshape(-1)


def encode_rle(pixels: np.ndarray) -> np.ndarray:
    """Encode a mask as the lengths of its runs, column after column, as COCO's uncompressed RLE has them.

    Args:
        pixels: (h, w) uint8, 0 outside.

    Returns:
        (N,) uint32: outside, inside, outside, ...; the first may be 0.

    Example:
        >>> encode_rle(np.array([[255, 0], [255, 0]], np.uint8))
        array([0, 2, 2], dtype=uint32)
    """
    inside = pixels.T.ravel() != 0
    changes = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    ends = np.concatenate(([0] if inside.size and inside[0] else [], changes, [inside.size]))
    return np.diff(ends, prepend=0).astype(np.uint32)


def read_mask(message: MaskMessage) -> np.ndarray:
    """Read the mask of a ClassMask or an Instance, however it is encoded.

    Args:
        message: The message. A `mask_encoding` that is empty, or missing as in recordings of earlier versions, means
            mono8.

    Returns:
        (roi.height, roi.width) bool.

    Raises:
        FrameError: The mask is damaged, has another size than `roi`, or is encoded in an unknown way.

    Example:
        >>> read_mask(message.masks[0])  # message: a ClassMasks
        array([[ True,  True]])
    """
    encoding = getattr(message, "mask_encoding", "") or MONO8
    try:
        check_mask_encoding(encoding)
        size = message.roi.height, message.roi.width
        return _READERS[encoding](message, size)
    except ValueError as error:
        raise FrameError(f"the mask of {message.label!r} cannot be read: {error}") from None


def mask_in_frame(message: MaskMessage, shape: tuple[int, int]) -> np.ndarray:
    """Read the mask of a ClassMask or an Instance at the size of its frame.

    Args:
        message: The message, as for `read_mask`.
        shape: (H, W) of the frame in pixels.

    Returns:
        (H, W) bool.

    Raises:
        FrameError: The mask cannot be read, or its `roi` does not lie in the frame.
    """
    roi, (height, width) = message.roi, shape
    bottom, right = roi.y_offset + roi.height, roi.x_offset + roi.width
    if bottom > height or right > width:
        raise FrameError(
            f"the mask of {message.label!r} lies at x {roi.x_offset} to {right}, y {roi.y_offset} to {bottom}: "
            f"expected it inside the frame of {width}x{height} pixels"
        )
    full = np.zeros(shape, bool)
    full[roi.y_offset : bottom, roi.x_offset : right] = read_mask(message)
    return full


def _read_mono8(message: MaskMessage, size: tuple[int, int]) -> np.ndarray:
    if message.mask.encoding != "mono8":
        raise FrameError(f"its image has the encoding {message.mask.encoding!r}; accepted: mono8")
    _check_size((message.mask.height, message.mask.width), size)
    return image_to_array(message.mask) == 255


def _read_png(message: MaskMessage, size: tuple[int, int]) -> np.ndarray:
    data = bytes(memoryview(message.mask_png.data))
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            width, height = file.size
            file.verify()  # every checksum but that of the end; reading the pixels would miss some
        if not data.endswith(_PNG_END):
            raise ValueError("its end is missing")
        _check_size((height, width), size)  # before the memory for the pixels is taken
        with Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            return np.asarray(file.convert("L")) == 255
    except FrameError:
        raise
    except Exception as error:  # a parser may meet anything in damaged bytes
        reason = "it is no PNG file" if not data.startswith(_PNG_BEGIN) else f"it is damaged or cut off ({error})"
        raise FrameError(f"{reason}; mask_png has {len(data)} bytes, expected a whole PNG file") from None


def _read_rle(message: MaskMessage, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    runs = np.asarray(message.mask_rle, np.uint32)
    total = int(runs.sum(dtype=np.uint64))
    if total != height * width:
        raise FrameError(
            f"its {len(runs)} runs have {total} pixels; expected {height * width} for a roi of {width}x{height}"
        )
    inside = np.zeros(len(runs), bool)
    inside[1::2] = True
    return np.ascontiguousarray(inside.repeat(runs).reshape(width, height).T)


def _check_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    if size != expected:
        (height, width), (rows, columns) = size, expected
        raise FrameError(f"it has {width}x{height} pixels; expected {columns}x{rows}, the size of roi")


_READERS = {MONO8: _read_mono8, PNG: _read_png, RLE: _read_rle}
