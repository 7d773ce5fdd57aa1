"""Log lines of a long job: what it does now, and how long the step before took."""

from __future__ import annotations

import logging
import time


class Steps:
    """Log each step of a job when it begins, with the seconds that the step before took.

    Args:
        logger: gets one line per step.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger, self._step, self._began = logger, "", time.monotonic()

    def __call__(self, step: str) -> None:
        """Begin a step; "done" ends the last one."""
        now = time.monotonic()
        before = f" ({self._step} took {now - self._began:.1f} s)" if self._step else ""
        self._logger.info("%s%s", step, before)
        self._step, self._began = step.partition(",")[0], now
