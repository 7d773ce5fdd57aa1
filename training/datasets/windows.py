"""Windows of images around what they are to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def window_around(region: np.ndarray, side: int, shift: Sequence[float]) -> tuple[slice, slice]:
    """Place a square window inside a map so that its middle is near that of a region.

    Args:
        region: (H,W) bool, not empty.
        side: of the window in pixels. The window is cut where the map is smaller.
        shift: of the middle, down and to the right, in sides.

    Returns:
        The rows and columns of the window.
    """
    size = np.minimum(side, region.shape)
    middle = np.array([places.mean() for places in np.nonzero(region)])
    corner = np.clip(middle + np.asarray(shift) * side - size / 2, 0, region.shape - size).astype(int)
    rows, columns = (slice(int(start), int(start + length)) for start, length in zip(corner, size, strict=True))
    return rows, columns
