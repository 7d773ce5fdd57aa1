"""Kinds of image files, told by their bytes: those that are not read, and those with more than one frame."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

_CONVERT = "convert it to JPEG or PNG"
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PFM = (b"PF\n", b"Pf\n", b"PF ", b"Pf ")
_SEVERAL = (b"GIF8", b"RIFF", b"\x89PNG", *_TIFF)  # kinds that may hold more frames than one
HEAD = 32  # bytes that tell the kind

# Files in a folder that people mean as images, whether or not they can be read; other files are not images.
IMAGE_LIKE = frozenset(
    f".{name}"
    for name in "heic heif hif jxl cr2 cr3 nef arw dng orf raf rw2 psd svg exr ico tga pcx".split()  # noqa: SIM905
)


def foreign_kind(head: bytes) -> str:
    """Name the kind of an image that is not read here; "" for any other file.

    Args:
        head: the first 32 bytes of the file.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        return "HEIC"
    return "JPEG XL" if head.startswith(_JXL) else ""


def why_unreadable(data: np.ndarray) -> str:
    """Say why an image file cannot be read.

    Args:
        data: the file's bytes, (N,) uint8.
    """
    head = bytes(data[:HEAD])
    kind = foreign_kind(head)
    if kind:
        return f"it is {kind}, which is not supported: {_CONVERT}"
    if head.startswith((*_TIFF, *_PFM)):
        try:
            samples = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            samples = None
        if samples is not None and samples.dtype not in (np.uint8, np.uint16):
            return f"its samples are {samples.dtype}, whose brightness is unknown: convert them to 8 or 16 bits"
    return "it is not an image, or it is damaged"


def has_float_samples(data: np.ndarray) -> bool:
    """Tell whether a file is a PFM, whose numbers OpenCV would cut to bytes.

    Args:
        data: the file's bytes, (N,) uint8.
    """
    return bytes(data[:3]) in _PFM


def count_frames(data: np.ndarray) -> int:
    """Count the frames or pages of an image file; 1 where that cannot be told.

    Args:
        data: the file's bytes, (N,) uint8.
    """
    if not bytes(data[:HEAD]).startswith(_SEVERAL):
        return 1
    try:
        with Image.open(io.BytesIO(data)) as image:
            return getattr(image, "n_frames", 1)
    except Exception:  # its decoder reports what is wrong with the file
        return 1
