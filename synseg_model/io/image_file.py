"""Image files and their bytes to RGB arrays, with a reason for what cannot be read."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from synseg_model.io.image_kinds import count_frames, has_float_samples, why_unreadable
from synseg_model.io.jpeg import JpegError, decode_jpeg, is_jpeg

__all__ = ["MediaError", "decode_image", "decode_samples", "read_image"]

logger = logging.getLogger(__name__)

_EXIF_WITHIN = 2**17  # bytes: it is among the first segments, none of which is longer than 64 KiB


class MediaError(ValueError):
    """An image, or a source of images, that is missing, empty or unreadable; the text is one line for the user."""


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file.

    EXIF orientation is applied, grey and CMYK become RGB, 16 bits become 8, alpha is dropped. Of several frames or
    pages the first one is read, and the log says so.

    Args:
        path: the file.

    Returns:
        (H,W,3) uint8 RGB.

    Raises:
        MediaError: where the file cannot be read or decoded.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from None
    if not data.size:
        raise MediaError(f"cannot read {path}: the file is empty")
    try:
        image = decode_image(data)
    except MediaError as error:
        raise MediaError(f"cannot decode {path}: {error}") from None
    frames = count_frames(data)
    if frames > 1:
        logger.warning("%s has %d frames or pages: only the first is used", path, frames)
    return image


def decode_image(data: np.ndarray, oriented: bool = True) -> np.ndarray:
    """Decode the bytes of an image file; 16 bits become 8, alpha is dropped.

    Args:
        data: (N,) uint8.
        oriented: turn the image as its EXIF data ask for.

    Returns:
        (H,W,3) uint8 RGB.

    Raises:
        MediaError: where the bytes cannot be decoded; the message says why.
    """
    rgb = _checked_jpeg(data)
    if rgb is not None and not (oriented and b"Exif\0" in bytes(data[:_EXIF_WITHIN])):
        return rgb
    bgr = _decode(data, cv2.IMREAD_COLOR | (0 if oriented else cv2.IMREAD_IGNORE_ORIENTATION))
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def decode_samples(data: np.ndarray) -> np.ndarray:
    """Decode the bytes of an image file as they are stored.

    Args:
        data: (N,) uint8.

    Returns:
        uint8 or uint16: (H,W), or (H,W,C) in the order BGR or BGRA.

    Raises:
        MediaError: where the bytes cannot be decoded, and for samples of another type; the message says why.
    """
    _checked_jpeg(data)
    samples = _decode(data, cv2.IMREAD_UNCHANGED)
    if samples.dtype not in (np.uint8, np.uint16):
        raise MediaError(f"its samples are {samples.dtype}: expected integers of 8 or 16 bits")
    return samples


def _checked_jpeg(data: np.ndarray) -> np.ndarray | None:
    """Decode a JPEG as its pixels are stored; None for another image. Raise MediaError for a damaged one."""
    try:
        return decode_jpeg(data) if is_jpeg(data) else None
    except JpegError as error:
        raise MediaError(str(error)) from None


def _decode(data: np.ndarray, flags: int) -> np.ndarray:
    if not data.size:
        raise MediaError("there are no bytes")
    try:
        samples = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise MediaError(" ".join(str(error.err or error).split())) from None
    if samples is None or has_float_samples(data):
        raise MediaError(why_unreadable(data))
    return samples
