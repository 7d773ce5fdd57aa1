"""How many requests clients may make: so many per second, and so many at once. Knows nothing of ROS."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

REMEMBERED = 256  # clients; those that asked longest ago are forgotten first
BURST = 2  # seconds' worth of requests that a client may make at once


class RequestLimits:
    """Admit requests of each client up to a rate. Called on one thread.

    Args:
        clock: Returns seconds, on a clock that nobody sets back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, and when that was so

    def admit(self, client: str, rate: float) -> bool:
        """Return whether a client may make a request now.

        Args:
            client: Name of the client; all without a name are one.
            rate: Requests per second; twice as many may come at once.
        """
        now, most = self._clock(), max(1.0, BURST * rate)
        left, before = self._left.pop(client, (most, now))
        left = min(most, left + rate * (now - before))
        admitted = left >= 1
        self._left[client] = (left - admitted, now)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        return admitted
