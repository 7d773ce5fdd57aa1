"""Let events through now and then, such as warnings that would repeat with every frame."""

from __future__ import annotations

import time
from collections.abc import Callable

WARNING_SECONDS = 5.0


class RateLimit:
    """Let one event through per period and count the others.

    Args:
        period: Seconds from one event to the next.
        clock: Returns the time in seconds.
    """

    def __init__(self, period: float = WARNING_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._period, self._clock = period, clock
        self._last: float | None = None
        self._held_back = 0

    def admit(self) -> int | None:
        """Return how many events were held back since the last admitted one; None: hold this one back."""
        now = self._clock()
        if self._last is not None and now - self._last < self._period:
            self._held_back += 1
            return None
        self._last, held_back, self._held_back = now, self._held_back, 0
        return held_back
