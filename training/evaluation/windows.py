"""Sliding windows: a large image in overlapping squares, their logits averaged where they overlap."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def working_size(height: int, width: int, short: int = 448, longest: int = 2048) -> tuple[int, int]:
    """Choose (height, width) with a short side of `short`, the same proportions, and no side beyond `longest`."""
    scale = min(short / min(height, width), longest / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_keeping_ratio(image: np.ndarray, short: int = 448, longest: int = 2048) -> np.ndarray:
    """Resize an image (H,W,3) uint8 to `working_size`, bilinearly, as mmsegmentation's pipelines do."""
    height, width = working_size(*image.shape[:2], short, longest)
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows start along a side: every `stride` pixels, the last shifted back to end at the edge."""
    if window < 1 or not 1 <= stride <= window:
        raise ValueError(f"window {window} and stride {stride}: expected 1 <= stride <= window, or pixels are missed")
    count = max(0, -(-(length - window) // stride)) + 1
    return [max(0, min(i * stride, length - window)) for i in range(count)]


def sliding_logits(
    logits: Callable[[np.ndarray], Tensor], image: np.ndarray, window: int, stride: int, patch: int, batch: int = 4
) -> Tensor:
    """Average the logits of overlapping windows.

    logits: takes images (B,h,w,3) uint8 with sides that `patch` divides, returns (B,K,h,w). image: (H,W,3) uint8.
    A side shorter than the window takes a window of that side; windows whose sides `patch` does not divide are resized
    to the nearest that it does, and their logits back. Returns (K,H,W) float32 on the device of the logits.
    """
    height, width = image.shape[:2]
    size = (min(window, height), min(window, width))
    fitted = tuple(max(1, round(side / patch)) * patch for side in size)
    places = [(y, x) for y in window_starts(height, window, stride) for x in window_starts(width, window, stride)]
    total, count = None, torch.zeros(height, width)
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        crops = [image[y : y + size[0], x : x + size[1]] for y, x in some]
        if size != fitted:
            crops = [cv2.resize(crop, fitted[::-1], interpolation=cv2.INTER_LINEAR) for crop in crops]
        parts = logits(np.stack(crops)).float()
        if size != fitted:
            parts = F.interpolate(parts, size, mode="bilinear", align_corners=False)
        if total is None:
            total = parts.new_zeros(parts.shape[1], height, width)
        for (y, x), part in zip(some, parts, strict=True):
            total[:, y : y + size[0], x : x + size[1]] += part
            count[y : y + size[0], x : x + size[1]] += 1
    return total / count.to(total.device)
