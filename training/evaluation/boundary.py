"""The boundary F-score: does the outline of a mask lie where the true outline lies?

Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

TOLERANCE = 0.0075  # of the image's diagonal (Csurka et al.)


def tolerance(size: tuple[int, int]) -> int:
    """Return the tolerance in pixels for images of (height, width): 0.75 % of the diagonal, 3 for 240x320."""
    return max(1, round(TOLERANCE * math.hypot(*size)))


def outline(mask: np.ndarray) -> np.ndarray:
    """Mark the pixels of a mask (H,W) bool that touch what is outside of it by a side; the frame is no outside."""
    inner = cv2.erode(mask.view(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))  # the border: inside
    return mask & ~inner.view(bool)


def boundary_f_score(prediction: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    """Score how well the outlines of two masks match, from 0 to 1.

    prediction, truth: (H,W) bool. tolerance: pixels, Euclidean. Precision is the share of the predicted outline within
    the tolerance of the true one, recall the share of the true outline within that of the predicted one; the score is
    2PR / (P + R). 0 where only one of the masks has an outline, 1 where neither has.
    """
    outlines = outline(np.ascontiguousarray(prediction)), outline(np.ascontiguousarray(truth))
    if not all(line.any() for line in outlines):
        return float(not any(line.any() for line in outlines))
    precision, recall = (
        float((_distance_to(other)[line] <= tolerance).mean()) for line, other in (outlines, outlines[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _distance_to(line: np.ndarray) -> np.ndarray:
    """Return each pixel's distance (H,W) float32 to the nearest pixel of a line."""
    return cv2.distanceTransform((~line).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
