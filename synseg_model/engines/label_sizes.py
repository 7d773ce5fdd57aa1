"""How many labels one run on a GPU takes: few sizes, so that a new vocabulary rarely needs anything new. No torch."""

from __future__ import annotations

import bisect

SIZES = (1, 2, 5, 10, 20, 30, 40, 50, 64, 80, 96, 112, 128)
STEP = 16  # between larger sizes, whose time is mostly their labels'
NO_LABEL = 2.0  # threshold of a place that no label takes: no activation reaches it


def padded(labels: int) -> int:
    """Return the smallest size that has room for so many labels, 1 or more."""
    if labels <= SIZES[-1]:
        return SIZES[bisect.bisect_left(SIZES, labels)]
    return -(-labels // STEP) * STEP


def passes(labels: int, most: int, pad: bool) -> tuple[int, int]:
    """Divide labels into passes of one size, each of at most `most`: the number of passes, and their size.

    The last pass may have room to spare. pad: choose among few sizes where `most` allows.
    """
    count = -(-labels // most)
    size = -(-labels // count)
    return count, min(most, padded(size)) if pad else size
