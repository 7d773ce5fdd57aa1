"""How learning rates rise and fall over a run."""

from __future__ import annotations

import math


def rate_factor(progress: float, step: int, warmup: int, least: float = 0.0) -> float:
    """Return the share of the learning rate at a moment of a run: a linear rise, then half a cosine.

    Args:
        progress: of the run, from 0 to 1; above 1 it counts as 1.
        step: number of the step, from 0.
        warmup: steps over which the rate rises.
        least: share below which the cosine does not fall.

    Returns:
        A factor from 0 to 1.
    """
    ramp = min(1.0, (step + 1) / max(1, warmup))
    return ramp * max(least, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
