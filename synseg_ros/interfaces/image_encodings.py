"""Images in camera messages: every encoding that cameras commonly publish, to numpy and back.

A message is any object with the fields of a sensor_msgs/Image or CompressedImage. rclpy makes it on a robot, rosbags
for a recording. cv_bridge is not used, for three reasons: it comes with full ROS installations only, its binary builds
have broken on NumPy 2, and it gives neither a view instead of a copy nor a reason that names the bad value.

Layouts and names follow sensor_msgs/image_encodings.hpp. Two names leave the order of channels open: 8UC3 and
8UC4 are read as BGR and BGRA, the order of OpenCV images published without conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

BAYER_MINIMUM = 3  # pixels per side that bilinear demosaicing needs


class FrameError(ValueError):
    """A camera message that cannot be read as an image; the text names the bad value and what is accepted."""


class ImageMessage(Protocol):
    """A sensor_msgs/Image, as far as it is read here; `data` is a contiguous buffer of bytes."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: Any


class CompressedMessage(Protocol):
    """A sensor_msgs/CompressedImage, as far as it is read here; `data` is a contiguous buffer of bytes."""

    format: str
    data: Any


def _cvt(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _same(pixels: np.ndarray) -> np.ndarray:
    return pixels


@dataclass(frozen=True)
class _Format:
    """Describe one encoding: samples per pixel, bytes per sample, and the conversion to RGB."""

    channels: int
    depth: int
    to_rgb: Callable[[np.ndarray], np.ndarray]  # (rows, W[, C]) of depth bytes -> (H, W, 3) of the same depth
    even: str = ""  # sides that must be even, because their pixels share colour samples
    planar: bool = False  # a luma plane followed by one at half height with interleaved chroma
    bayer: bool = False


def _with_names(names: str, **description) -> dict[str, _Format]:
    return dict.fromkeys(names.split(), _Format(**description))


_GRAY, _BGR = _cvt(cv2.COLOR_GRAY2RGB), _cvt(cv2.COLOR_BGR2RGB)
_RGBA, _BGRA = _cvt(cv2.COLOR_RGBA2RGB), _cvt(cv2.COLOR_BGRA2RGB)
_UYVY, _YUYV = _cvt(cv2.COLOR_YUV2RGB_UYVY), _cvt(cv2.COLOR_YUV2RGB_YUY2)
_BAYER = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
}

FORMATS: dict[str, _Format] = {
    **_with_names("rgb8", channels=3, depth=1, to_rgb=_same),
    **_with_names("bgr8 8UC3", channels=3, depth=1, to_rgb=_BGR),
    **_with_names("rgba8", channels=4, depth=1, to_rgb=_RGBA),
    **_with_names("bgra8 8UC4", channels=4, depth=1, to_rgb=_BGRA),
    **_with_names("mono8 8UC1", channels=1, depth=1, to_rgb=_GRAY),
    **_with_names("rgb16", channels=3, depth=2, to_rgb=_same),
    **_with_names("bgr16", channels=3, depth=2, to_rgb=_BGR),
    **_with_names("rgba16", channels=4, depth=2, to_rgb=_RGBA),
    **_with_names("bgra16", channels=4, depth=2, to_rgb=_BGRA),
    **_with_names("mono16 16UC1", channels=1, depth=2, to_rgb=_GRAY),
    **_with_names("yuv422 uyvy", channels=2, depth=1, to_rgb=_UYVY, even="width"),
    **_with_names("yuv422_yuy2 yuyv", channels=2, depth=1, to_rgb=_YUYV, even="width"),
    **_with_names("nv12", channels=1, depth=1, to_rgb=_cvt(cv2.COLOR_YUV2RGB_NV12), even="both", planar=True),
    **_with_names("nv21", channels=1, depth=1, to_rgb=_cvt(cv2.COLOR_YUV2RGB_NV21), even="both", planar=True),
}
for _order, _code in _BAYER.items():
    for _bits in (8, 16):
        FORMATS[f"bayer_{_order}{_bits}"] = _Format(1, _bits // 8, _cvt(_code), bayer=True)

DEPTH = ("16UC1", "32FC1", "64FC1")  # ROS's encodings of depth: in millimetres, and in metres
ACCEPTED = ", ".join(sorted(FORMATS, key=str.lower))


def check_image_message(message: ImageMessage) -> None:
    """Check that a sensor_msgs/Image can be read, without reading a pixel.

    The encoding, the size, the step (bytes per row, padding allowed) and the length of the data are checked.

    Args:
        message: The message.

    Raises:
        FrameError: The message cannot be read as an image.
    """
    encoding, width, height, step = message.encoding, message.width, message.height, message.step
    form = FORMATS.get(encoding)
    if form is None:
        reason = ""
        if encoding.startswith(("32F", "64F")):
            reason = " (floating-point values, usually depth in metres, have no brightness range)"
        raise FrameError(f"encoding {encoding!r} cannot be read as an image{reason}; accepted: {ACCEPTED}")
    if width == 0 or height == 0:
        raise FrameError(f"size {width}x{height} is empty; width and height must be at least 1")
    if form.bayer and min(width, height) < BAYER_MINIMUM:
        raise FrameError(
            f"size {width}x{height} is too small for {encoding}; each side must be at least {BAYER_MINIMUM}"
        )
    if form.even and (width % 2 or (form.even == "both" and height % 2)):
        sides = "width and height" if form.even == "both" else "width"
        raise FrameError(f"size {width}x{height} does not fit {encoding}; {sides} must be even")
    row = width * form.channels * form.depth
    if step < row:
        raise FrameError(f"step {step} is shorter than a row of {width} {encoding} pixels; at least {row} accepted")
    if step % form.depth:
        raise FrameError(f"step {step} splits a 16-bit sample of {encoding}; only multiples of 2 accepted")
    expected = step * _rows(form, height)
    if len(message.data) != expected:
        raise FrameError(
            f"data has {len(message.data)} bytes; {width}x{height} {encoding} of step {step} takes {expected}"
        )


def depth_in(message: ImageMessage | CompressedMessage) -> str:
    """Tell by its encoding or format whether a message holds depth.

    Depth in millimetres (16UC1) could be read as brightness, but cameras call brightness mono16.

    Args:
        message: A sensor_msgs/Image or CompressedImage.

    Returns:
        The encoding or format in words, such as "encoding '16UC1'"; "" for a message without depth.
    """
    compressed = not hasattr(message, "encoding")
    name = message.format if compressed else message.encoding
    if name.startswith(DEPTH) or "compressedDepth" in name:
        return f"{'format' if compressed else 'encoding'} {name!r}"
    return ""


def check_not_depth(message: ImageMessage | CompressedMessage) -> None:
    """Check that a message does not hold depth, without reading a pixel.

    Args:
        message: A sensor_msgs/Image or CompressedImage.

    Raises:
        FrameError: It holds depth.
    """
    depth = depth_in(message)
    if depth:
        raise FrameError(
            f"{depth} is depth, not an image: choose a topic with images, or let the driver call it mono16 if it is "
            "brightness"
        )


def image_to_array(message: ImageMessage) -> np.ndarray:
    """Return the samples of a sensor_msgs/Image as they are, without a copy.

    Args:
        message: The message.

    Returns:
        (H, W) or (H, W, C), uint8 or uint16 in the byte order of the message, whose memory it shares. For nv12 and nv21
        the chroma rows are below the luma rows: (3H/2, W).

    Raises:
        FrameError: The message cannot be read as an image.
    """
    check_image_message(message)
    form = FORMATS[message.encoding]
    order = ">" if message.is_bigendian else "<"
    shape = (_rows(form, message.height), message.width, form.channels)
    strides = (message.step, form.channels * form.depth, form.depth)
    pixels = np.ndarray(shape, np.dtype(f"{order}u{form.depth}"), memoryview(message.data), strides=strides)
    return pixels[:, :, 0] if form.channels == 1 else pixels


def image_to_rgb(message: ImageMessage) -> np.ndarray:
    """Convert a sensor_msgs/Image to RGB.

    Alpha is dropped. 16-bit samples are scaled so that 65535 becomes 255. YUV is read as BT.601 video range, as V4L
    cameras deliver it.

    Args:
        message: The message.

    Returns:
        (H, W, 3) uint8 RGB. For rgb8 it is a view of the message's data, which has strides where rows are padded. Every
        other encoding is converted once.

    Raises:
        FrameError: The message cannot be read as an image.
    """
    pixels = image_to_array(message)
    form = FORMATS[message.encoding]
    if form.depth == 1:
        return form.to_rgb(pixels)
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return cv2.convertScaleAbs(form.to_rgb(native), alpha=255 / 65535)


def to_rgb(decode: Callable[[Any], np.ndarray], message: ImageMessage | CompressedMessage) -> np.ndarray:
    """Read a message's image, so that whatever goes wrong is a FrameError.

    Args:
        decode: `image_to_rgb` or `compressed_to_rgb`.
        message: The message.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FrameError: The message cannot be read as an image.
    """
    try:
        return decode(message)
    except FrameError:
        raise
    except Exception as error:  # OpenCV's own, for samples that it cannot convert
        raise FrameError(f"the image cannot be converted ({error})") from None


def image_fields(pixels: np.ndarray, encoding: str) -> dict[str, Any]:
    """Lay samples out as the fields of a sensor_msgs/Image without padding.

    Args:
        pixels: (H, W) or (H, W, C) uint8 or uint16 samples.
        encoding: A packed encoding of FORMATS with the channels and the depth of the array.

    Returns:
        All fields but the header; data is (N) uint8.

    Raises:
        ValueError: The encoding does not fit the array.
    """
    form = FORMATS.get(encoding)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if form is None or form.planar or (channels, pixels.dtype.itemsize) != (form.channels, form.depth):
        raise ValueError(
            f"an array of shape {pixels.shape} and type {pixels.dtype} is not an image of encoding {encoding!r}: "
            "expected (H, W) or (H, W, C) samples of that encoding's depth"
        )
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": pixels.shape[1] * form.channels * form.depth,
        "data": pixels.reshape(-1).view(np.uint8),
    }


def _rows(form: _Format, height: int) -> int:
    return height * 3 // 2 if form.planar else height
