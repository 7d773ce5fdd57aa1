"""A frame as pages show it: the masks drawn, as a JPEG, with the numbers that stand beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from synseg_model.folding import fold
from synseg_model.io.drawing import overlay
from synseg_model.io.jpeg import encode_jpeg
from synseg_model.live.feed import NOTHING, LiveFrame, LiveLabels, shrink

__all__ = ["DrawnFrame", "draw"]

JPEG_QUALITY = 82


@dataclass(frozen=True, eq=False)
class DrawnFrame:
    """Hold a frame as pages show it.

    Attributes:
        image: (H,W,3) uint8 RGB, with the masks drawn.
        jpeg: the same as a JPEG.
        about: what pages write beside it, ready for JSON.
    """

    image: np.ndarray
    jpeg: bytes
    about: dict[str, object]


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Give `overlay` what it reads from a result."""

    label_map: np.ndarray
    ids: tuple[int, ...]
    labels: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.label_map.shape


def draw(frame: LiveFrame, hidden: set[str], names: bool, rate: float, live: bool) -> DrawnFrame:
    """Draw a frame.

    Args:
        frame: the frame.
        hidden: folded labels that are not drawn.
        names: whether the names of labels are written on the image.
        rate: frames per second, which pages write beside it.
        live: whether the frame is a new one, whose latency means something.

    Raises:
        ValueError: for a frame of which no JPEG can be made.
    """
    image = shrink(frame.image)
    if frame.label_map is not None:
        label_map = shrink(_without(frame.label_map, frame.labels, hidden))
        image = overlay(image, _Labelled(label_map, frame.labels.ids, frame.labels.labels), names=names)
    jpeg = encode_jpeg(image, JPEG_QUALITY)
    latency = None if frame.captured is None or not live else 1000 * (time.monotonic() - frame.captured)
    about = {
        "type": "frame",
        "width": image.shape[1],
        "height": image.shape[0],
        "rate": round(rate, 1),
        "latency_ms": _rounded(latency),
        "engine_ms": _rounded(frame.engine_ms),
        # By label, because an id may be another label's soon. Seven digits tell one pixel of a million from none.
        "found": {
            label: [round(value, 7) for value in frame.found.get(number, NOTHING)]
            for label, number in zip(frame.labels.labels, frame.labels.ids, strict=True)
        },
    }
    return DrawnFrame(image, jpeg, about)


def _without(label_map: np.ndarray, labels: LiveLabels, hidden: set[str]) -> np.ndarray:
    """Return a label map in which hidden labels are background."""
    table = np.arange(max(int(label_map.max()), *labels.ids) + 1, dtype=label_map.dtype)
    for label, number in zip(labels.labels, labels.ids, strict=True):
        if fold(label) in hidden:
            table[number] = 0
    return np.take(table, label_map)


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
