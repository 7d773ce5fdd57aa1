"""One image of a data set and its truth, read from label files as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.evaluation.metrics import IGNORE

_UNKNOWN = -1


@dataclass(frozen=True)
class EvaluationSample:
    """An image and how to get its truth.

    name: unique within the data set. truth: returns class indices (H,W) uint8, 255 where no pixel counts.
    """

    name: str
    path: Path
    truth: Callable[[], np.ndarray]

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the image (H,W,3) uint8 RGB and its truth (H,W); raise ValueError where their sizes differ."""
        image, truth = read_image(self.path), self.truth()
        if image.shape[:2] != truth.shape:
            raise ValueError(
                f"{self.path} is {image.shape[1]}x{image.shape[0]} pixels and its labels are "
                f"{truth.shape[1]}x{truth.shape[0]}: they belong to different images or one was resized"
            )
        return image, truth


def read_image(path: Path) -> np.ndarray:
    """Read an image (H,W,3) uint8 RGB without turning it as EXIF may ask: labels know nothing of EXIF."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise ValueError(
            f"no image {path}, which the data set's labels or lists name: the copy is incomplete"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error}): copy it again") from None


@dataclass(frozen=True)
class LabelCodes:
    """Turn the values of a label file into class indices.

    table: (256,) int16 class index per value, 255 for values that count nowhere, -1 for values that no file may hold.
    """

    table: np.ndarray

    @classmethod
    def of(cls, classes: int, first: int = 0, ignored: tuple[int, ...] = (IGNORE,)) -> LabelCodes:
        """Accept values first..first+classes-1 as classes 0..classes-1, and the ignored ones."""
        table = np.full(256, _UNKNOWN, np.int16)
        table[first : first + classes] = np.arange(classes)
        table[list(ignored)] = IGNORE
        return cls(table)

    def read(self, path: Path) -> np.ndarray:
        """Read a label file; raise ValueError for a file in colours, a value unknown here, or no image."""
        try:
            with Image.open(path) as image:
                mode, values = image.mode, np.array(image)
        except OSError as error:
            raise ValueError(f"cannot read the labels {path} ({error}): copy the file again") from None
        if values.ndim != 2 or mode not in ("L", "P"):
            raise ValueError(f"labels {path} are a {mode} image: expected one channel of class numbers, 8 bit")
        classes = self.table[values]
        if (classes == _UNKNOWN).any():
            wrong = int(values[classes == _UNKNOWN][0])
            known = np.flatnonzero(self.table != _UNKNOWN)
            raise ValueError(
                f"labels {path} hold the value {wrong}: expected {_ranges(known)}. Is it another data set's?"
            )
        return classes.astype(np.uint8)


def _ranges(values: np.ndarray) -> str:
    """Write ascending numbers shortly: 0 to 20, 255."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
