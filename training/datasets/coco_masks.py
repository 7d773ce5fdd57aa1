"""Masks of COCO's instances: polygons and run lengths."""

from __future__ import annotations

import cv2
import numpy as np


def instance_mask(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """Draw one instance (H,W) bool from polygons [[x, y, ...], ...] or run lengths {"counts": [...]} by columns."""
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if not isinstance(counts, list):
            raise ValueError(
                "an instance has compressed run lengths: expected polygons or a list of counts, as COCO has"
            )
        values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return values.reshape(size[1], size[0]).T
    mask = np.zeros(size, np.uint8)
    for polygon in segmentation:
        # Each polygon by itself: filled together, parts that overlap would cancel out.
        cv2.fillPoly(mask, [np.round(np.reshape(polygon, (-1, 2)) - 0.5).astype(np.int32)], 1)
    return mask.astype(bool)
