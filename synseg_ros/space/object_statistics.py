"""How many objects of one camera had a position lately, and why others had none."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WINDOW_SECONDS = 5.0


@dataclass
class ObjectStatistics:
    """Count objects with and without position; called on the worker's and on the executor's thread.

    Attributes:
        clock: Returns the time in seconds.
        objects: Number of objects so far, in frames whose objects were looked for in space.
        known: Number of those with a position.
        newest_problem: Why the last frame without positions had none; "" where all had.
    """

    clock: Callable[[], float] = time.monotonic
    objects: int = 0
    known: int = 0
    newest_problem: str = ""
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)  # time, objects, those with a position
    _problem: tuple[float, str] = (-float("inf"), "")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def located(self, positions: Sequence[object], problem: str) -> None:
        """Count the objects of one frame.

        Args:
            positions: Per object its position, or a text where it has none.
            problem: Why no object can have a position; "" where they can.
        """
        with self._lock:
            now, known = self.clock(), sum(not isinstance(one, str) for one in positions)
            self._recent.append((now, len(positions), known))
            self.objects, self.known = self.objects + len(positions), self.known + known
            if problem:
                self._problem, self.newest_problem = (now, problem), problem
            while self._recent[0][0] < now - WINDOW_SECONDS:
                self._recent.popleft()

    def failed(self, problem: str) -> None:
        """Note that a frame has no points.

        Args:
            problem: Why.
        """
        with self._lock:
            self._problem, self.newest_problem = (self.clock(), problem), problem

    @property
    def problem(self) -> str:
        """Why a frame of the last seconds had no positions; "" where all had."""
        with self._lock:
            noticed, problem = self._problem
            return problem if self.clock() - noticed < WINDOW_SECONDS else ""

    def rows(self) -> dict[str, str]:
        """Return what /diagnostics says of the last seconds."""
        problem, now = self.problem, self.clock()
        with self._lock:
            recent = [row for row in self._recent if row[0] >= now - WINDOW_SECONDS]
        objects, known = (sum(row[column] for row in recent) for column in (1, 2))
        share = f"{100 * known / objects:.0f}" if objects else ""
        return {"objects": str(objects), "objects with a position (%)": share, "position problem": problem}
