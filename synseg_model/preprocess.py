"""Frames to the network's input size, and what changes with the token grid. Needs no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import cv2
import numpy as np

from synseg_model.config import ImageConfig

KEPT_SIZES = 16  # sizes of frames or grids whose constants stay on a device; a camera has one of each

Key, Value = TypeVar("Key"), TypeVar("Value")


def remembered(known: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Return what `known` has for a key, made where the key is new.

    All are forgotten when there are KEPT_SIZES keys.

    Args:
        known: what was made so far, by key.
        key: the key.
        make: makes the value of a new key.
    """
    if key not in known:
        if len(known) == KEPT_SIZES:
            known.clear()
        known[key] = make()
    return known[key]


def by_size(
    frames: Sequence[np.ndarray], run: Callable[[list[np.ndarray]], Iterable[np.ndarray]], most: int = sys.maxsize
) -> list[np.ndarray]:
    """Run frames of one size as one batch.

    Args:
        frames: each (H,W,3); their sizes may differ.
        run: gets frames of one size, and returns a result for each of them.
        most: largest number of frames in a batch.

    Returns:
        A result for each frame, in their order.
    """
    results: list[np.ndarray | None] = [None] * len(frames)
    for size in {frame.shape for frame in frames}:
        rows = [i for i, frame in enumerate(frames) if frame.shape == size]
        for start in range(0, len(rows), most):
            batch = rows[start : start + most]
            for i, result in zip(batch, run([frames[i] for i in batch]), strict=True):
                results[i] = result
    return results


def resize_frame(frame: np.ndarray, image: ImageConfig, patch: int) -> np.ndarray:
    """Resize a frame to the input size that `image` asks for; a frame that shrinks is averaged over areas.

    Values are not rounded: OpenCV rounds bytes in ways that depend on the sizes, which no exported graph could follow.

    Args:
        frame: (H,W,3) uint8.
        image: the model's image config.
        patch: side of a token in pixels.

    Returns:
        (h,w,3) float32, 0 to 255.
    """
    height, width = image.input_size(*frame.shape[:2], patch)
    pixels = frame.astype(np.float32)
    if frame.shape[:2] == (height, width):
        return pixels
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_positions(positions: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resample position embeddings from one token grid to another, bicubic.

    This equals torch's bicubic interpolation without aligned corners: cubic convolution (Keys, 1981) with a = -0.75.

    Args:
        positions: (h,w,C).
        rows, columns: the new grid.

    Returns:
        (rows,columns,C) float32.
    """
    height, width, channels = positions.shape
    down = (_cubic_weights(height, rows) @ positions.reshape(height, -1)).reshape(rows, width, channels)
    return (_cubic_weights(width, columns) @ down).astype(np.float32)


def _cubic_weights(source: int, target: int) -> np.ndarray:
    """Weigh (target, source) samples so that weights @ samples resamples them; samples beyond an end equal the last."""
    centers = (np.arange(target) + 0.5) * source / target - 0.5
    taps = np.floor(centers)[:, None] + np.arange(-1, 3)
    distance, a = np.abs(centers[:, None] - taps), -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    weights = np.zeros((target, source))
    places = np.clip(taps, 0, source - 1).astype(int)
    np.add.at(weights, (np.arange(target)[:, None], places), np.where(distance <= 1, near, far))
    return weights
