"""JPEGs, decoded by a library that reports damage: OpenCV shows grey where data is missing, and says nothing.

simplejpeg hands out libjpeg-turbo's warnings. Where it is not installed, OpenCV decodes, and one warning says so.
OpenCV encodes.
"""

from __future__ import annotations

import logging
import re
from functools import cache
from types import ModuleType

import cv2
import numpy as np

from synseg_model.install_hints import install_command

logger = logging.getLogger(__name__)

START = b"\xff\xd8\xff"
PADDING = 8  # bytes that webcams leave before the end mark
NOTHING = bytes(32)  # what a hole in a file reads as; only the scan of a flat image with its own tables has such a run
_DAMAGE = re.compile(r"Corrupt JPEG data|Premature end")
_BEFORE_END = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_SOF, _DHT, _SOS = (0xC0, 0xC1), 0xC4, 0xDA


class JpegError(ValueError):
    """A damaged JPEG; the text says how it is damaged."""


def is_jpeg(data: bytes | memoryview | np.ndarray) -> bool:
    """Tell whether bytes begin as a JPEG does."""
    return bytes(data[:3]) == START


def decode_jpeg(data: np.ndarray) -> np.ndarray | None:
    """Decode the bytes of a JPEG as its pixels are stored, without turning the image.

    A JPEG has no checksum. So damage is not noticed where what is left could have been meant.

    Args:
        data: (N,) uint8.

    Returns:
        (H,W,3) uint8 RGB; None for a JPEG that this decoder does not know, such as one in CMYK: another one may.

    Raises:
        JpegError: for a damaged JPEG.
    """
    library = _library()
    if library is None:
        return None
    content = data.tobytes()
    _refuse_hole(content)
    try:
        return library.decode_jpeg(content, strict=True)
    except ValueError as error:
        reason = str(error)
    if _is_damage(reason):
        raise JpegError(f"the JPEG is damaged: {reason}")
    try:
        return library.decode_jpeg(content, strict=False)
    except ValueError:
        return None


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encode an image as a JPEG.

    Args:
        image: (H,W,3) uint8 RGB.
        quality: 1 to 100.

    Raises:
        ValueError: for an image of which no JPEG can be made, such as one with a side over 65535 pixels.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise ValueError(f"no JPEG of {image.shape[1]}x{image.shape[0]} pixels can be made")
    return data.tobytes()


def _is_damage(warning: str) -> bool:
    padding = _BEFORE_END.search(warning)
    return _DAMAGE.match(warning) is not None and not (padding and int(padding[1]) <= PADDING)


def _refuse_hole(content: bytes) -> None:
    """Raise JpegError for a scan with a run of zeros, which may decode without a warning.

    Not where the Huffman tables, as those of a flat image may, begin with the code for the end of a block; nor in
    progressive ones, whose scans have such runs.
    """
    hole = content.find(NOTHING)
    if hole < 0:
        return
    sequential, position, codes = False, 2, []
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker, size = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker in _SOF:
            sequential = True
        elif marker == _DHT:
            codes += _first_codes(content[position + 4 : position + 2 + size])
        elif marker == _SOS:
            break
        position += 2 + size
    else:
        return
    hole = content.find(NOTHING, position)
    end = content.rfind(b"\xff\xd9")
    if sequential and any(codes) and 0 <= hole < end:
        raise JpegError(f"the JPEG is damaged: from byte {hole} on it is empty")


def _first_codes(tables: bytes) -> list[int]:
    """Return the meaning of the all-zero code of each AC table in a DHT segment; 0 is the end of a block."""
    codes, position = [], 0
    while position + 17 < len(tables):
        count = sum(tables[position + 1 : position + 17])
        if tables[position] >> 4 == 1:
            codes.append(tables[position + 17])
        position += 17 + count
    return codes


@cache
def _library() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        logger.warning("simplejpeg is not installed, so damage in JPEGs goes unnoticed: %s", install_command())
        return None
    return simplejpeg
