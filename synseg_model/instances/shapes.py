"""Decide where one blob is clearly two objects, and where two blobs are one object behind something thin."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Shapes are judged at this size: a neck of a third of a body is still several pixels wide.
_SIDE = 80
# A part whose half-width is below this share of the largest part's is a limb or a handle, not a second object.
_LIMB = 0.5


def may_be_several(masks: Sequence[np.ndarray], neck: float) -> list[bool]:
    """Tell which masks `split_mask` may split, for all in one go: the others have one core and so are one body.

    Args:
        masks: at least one, each (h,w) bool inside its box.
        neck: as for `split_mask`.
    """
    coarse = [_coarse(mask)[0] for mask in masks]
    widths = np.array([one.shape[1] for one in coarse])
    lefts = np.cumsum(widths + 1) - widths
    # The masks side by side, with an empty line around each, so that none changes another's distances.
    sheet = np.zeros((max(len(one) for one in coarse) + 2, int(lefts[-1] + widths[-1]) + 1), np.uint8)
    for left, one in zip(lefts.tolist(), coarse, strict=True):
        sheet[1 : 1 + len(one), left : left + one.shape[1]] = one
    depth = cv2.distanceTransform(sheet, cv2.DIST_L2, 3)
    largest = np.maximum.reduceat(depth.max(axis=0), lefts)
    limit = np.zeros(sheet.shape[1], np.float32)
    limit[1:] = np.repeat(neck * largest.astype(np.float64), widths + 1)
    count, cores = cv2.connectedComponents((depth > limit).view(np.uint8), connectivity=8)
    if np.count_nonzero(np.maximum.reduceat(cores.max(axis=0), lefts)) == count - 1:  # no mask has a second core
        return [False] * len(masks)
    inside = np.flatnonzero(cores)
    pixel = np.zeros(count, np.int64)  # one of each core
    pixel[cores.ravel()[inside]] = inside
    of = np.searchsorted(lefts, pixel[1:] % sheet.shape[1], side="right") - 1
    return (np.bincount(of, minlength=len(masks)) > 1).tolist()


def split_mask(mask: np.ndarray, neck: float) -> list[np.ndarray]:
    """Split a mask where a thin neck joins two bodies.

    Args:
        mask: (h,w) bool, inside its box.
        neck: the half-width of the neck must be below this share of the smaller body's half-width.

    Returns:
        The parts, each (h,w) bool and disjoint; the mask alone where it is one body. Every pixel goes to the nearest
        body.
    """
    coarse, step = _coarse(mask)
    small = np.zeros((coarse.shape[0] + 2, coarse.shape[1] + 2), np.uint8)
    small[1:-1, 1:-1] = coarse
    depth = cv2.distanceTransform(small, cv2.DIST_L2, 3)
    largest = float(depth.max())
    count, cores = cv2.connectedComponents((depth > neck * largest).view(np.uint8), connectivity=8)
    if count <= 2:
        return [mask]
    bodies = _bodies(depth, cores, count, neck)
    if len(bodies) < 2:
        return [mask]
    seeds = np.ones(small.shape, np.uint8)
    for core in bodies:
        seeds[cores == core] = 0
    _, nearest = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    height, width = mask.shape
    nearest = nearest[1:-1, 1:-1].astype(np.uint8)
    if step > 1:
        nearest = nearest.repeat(step, 0).repeat(step, 1)[:height, :width]
    parts = (mask & (nearest == number) for number in range(1, len(bodies) + 1))
    return [part for part in parts if part.any()]


def _coarse(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Return every so many-th row and column of a mask, up to _SIDE of each, and how many-th."""
    step = max(1, -(-max(mask.shape) // _SIDE))
    return mask[::step, ::step], step


def _bodies(depth: np.ndarray, cores: np.ndarray, count: int, neck: float) -> list[int]:
    """Choose the cores that are bodies of their own: thick enough, with a neck to every thicker one."""
    peaks = {core: float(depth[cores == core].max()) for core in range(1, min(count, 64))}
    ordered = sorted(peaks, key=peaks.get, reverse=True)
    thickest = peaks[ordered[0]]
    bodies = ordered[:1]
    for core in ordered[1:]:
        if peaks[core] < _LIMB * thickest:
            break
        _, deep = cv2.connectedComponents((depth > neck * peaks[core]).view(np.uint8), connectivity=8)
        own = deep[cores == core][0]
        if not any((deep[cores == body] == own).any() for body in bodies):
            bodies.append(core)
    return bodies


def facing_length(
    smaller: np.ndarray, at: tuple[int, int], larger: np.ndarray, larger_at: tuple[int, int], reach: float
) -> float:
    """Measure how much of a mask's rim lies near another mask.

    Args:
        smaller: (h,w) bool, inside its box, whose rim is measured.
        at: left and top of that box in pixels.
        larger: (h,w) bool, the other mask, inside its box.
        larger_at: left and top of that box in pixels.
        reach: what is near, in pixels.

    Returns:
        Pixels of the rim that are at most `reach` away from the other mask.
    """
    margin = int(reach) + 1
    height, width = smaller.shape
    left, top = at[0] - margin, at[1] - margin
    window = (height + 2 * margin, width + 2 * margin)
    near, other = np.zeros(window, np.uint8), np.ones(window, np.uint8)
    near[margin:-margin, margin:-margin] = smaller
    dx, dy = larger_at[0] - left, larger_at[1] - top
    rows = slice(max(0, dy), max(0, min(window[0], dy + larger.shape[0])))
    columns = slice(max(0, dx), max(0, min(window[1], dx + larger.shape[1])))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return 0.0
    other[rows, columns] = ~larger[rows.start - dy : rows.stop - dy, columns.start - dx : columns.stop - dx]
    step = max(1, max(window) // _SIDE)
    near, other = np.ascontiguousarray(near[::step, ::step]), np.ascontiguousarray(other[::step, ::step])
    distance = cv2.distanceTransform(other, cv2.DIST_L2, 3)
    rim = near - cv2.erode(near, np.ones((3, 3), np.uint8), borderValue=0)
    return float(np.count_nonzero(rim[distance <= reach / step])) * step
