"""Compressed images as image_transport publishes them: those of camera messages to numpy, and drawings to JPEGs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from synseg_model.io.image_file import MediaError, decode_image, decode_samples
from synseg_ros.interfaces.image_encodings import BAYER_MINIMUM, FORMATS, CompressedMessage, FrameError

JPEG_QUALITY = 80  # names stay legible; half the bytes of image_transport's 95


def compressed_to_rgb(message: CompressedMessage) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage, such as a JPEG or PNG, to RGB.

    The pixels stay where the camera has them, whatever orientation the file asks for. Alpha is dropped, 16 bits become
    8. A Bayer mosaic that image_transport compressed as it was is demosaiced.

    Args:
        message: The message.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FrameError: The message holds compressedDepth, or cannot be decoded.
    """
    if "compressedDepth" in message.format:
        raise FrameError(f"format {message.format!r} is depth, not an image; accepted: JPEG, PNG and other image files")
    data = np.frombuffer(message.data, np.uint8)
    try:
        if _has_mosaic(message.format):
            return _mosaic_to_rgb(message.format, data)
        return decode_image(data, oriented=False)
    except MediaError as error:
        raise FrameError(f"format {message.format!r}, {len(message.data)} bytes: {error}") from None


def jpeg_fields(image: np.ndarray, quality: int = JPEG_QUALITY) -> dict[str, Any]:
    """Compress an image as the fields of a sensor_msgs/CompressedImage.

    Args:
        image: (H, W, 3) uint8 RGB.
        quality: Of the JPEG, 1 to 100.

    Returns:
        All fields but the header; data is (N) uint8. The format is the one that image_transport gives rgb8 images.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].reshape(-1)
    return {"format": "rgb8; jpeg compressed bgr8", "data": data}


def _has_mosaic(form: str) -> bool:
    """Tell whether a format, "ENCODING; jpeg|png compressed [ENCODING INSIDE]", may hold an undone Bayer mosaic."""
    inside = form.partition(" compressed")[2].strip()
    return form.startswith("bayer_") and (not inside or inside.startswith("bayer_"))


def _mosaic_to_rgb(form: str, data: np.ndarray) -> np.ndarray:
    samples = decode_samples(data)
    if samples.ndim == 3:  # the driver has demosaiced before, whatever the format says
        return decode_image(data, oriented=False)
    encoding = form.partition(";")[0].strip()
    order = FORMATS.get(encoding)
    if order is None or not order.bayer:
        known = ", ".join(name for name, known in FORMATS.items() if known.bayer)
        raise MediaError(f"{encoding!r} is not a Bayer pattern; accepted: {known}")
    if min(samples.shape) < BAYER_MINIMUM:
        raise MediaError(
            f"size {samples.shape[1]}x{samples.shape[0]} is too small; each side must be at least {BAYER_MINIMUM}"
        )
    rgb = order.to_rgb(samples)
    return rgb if rgb.dtype == np.uint8 else cv2.convertScaleAbs(rgb, alpha=255 / 65535)
