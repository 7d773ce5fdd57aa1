"""Masks of COCO's instances, drawn by COCO's own code: polygons and run lengths."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco

FARTHEST = 100_000  # pixels: a polygon that reaches farther is damaged, and would take all memory to draw


def instance_mask(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """Draw one instance.

    Args:
        segmentation: polygons [[x, y, ...], ...] in pixels, which add up, or run lengths {"counts": [...]} that go down
            the columns.
        size: (height, width) of the image.

    Returns:
        The mask (H,W) bool.

    Raises:
        ValueError: it is none of them, or its run lengths are of another size.
    """
    if isinstance(segmentation, dict):
        return coco.decode(coco.frPyObjects({"counts": _counts(segmentation, size), "size": list(size)}, *size)) > 0
    if not isinstance(segmentation, list):
        raise ValueError(f"an instance is a {type(segmentation).__name__}: expected polygons or run lengths")
    polygons = [polygon for polygon in map(_polygon, segmentation) if len(polygon) > 4]  # fewer corners have no area
    if not polygons:
        return np.zeros(size, bool)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, *size))) > 0


def _counts(segmentation: dict, size: tuple[int, int]) -> list[int]:
    """Return the run lengths of an instance after a check: COCO's code trusts them."""
    counts = segmentation["counts"]
    if not isinstance(counts, list):
        raise ValueError("an instance has compressed run lengths: expected polygons or a list of counts, as COCO has")
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any() or lengths.sum() != np.prod(size):
        raise ValueError(f"an instance has run lengths that are not of {size[0]}x{size[1]} pixels")
    return counts


def _polygon(polygon: list) -> list[float]:
    """Return a polygon's coordinates after a check."""
    points = np.asarray(polygon, np.float64)
    if points.ndim != 1 or len(points) % 2 or not (np.abs(points) < FARTHEST).all():
        raise ValueError(f"an instance has the polygon {str(polygon)[:60]}: expected pairs of coordinates in pixels")
    return points.tolist()
