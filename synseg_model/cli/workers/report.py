"""The report of a run with several workers."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from synseg_model.cli.workers.host import Started
from synseg_model.files import write_json

__all__ = ["REPORT", "Report"]

REPORT = "report.json"
_SECONDS_BETWEEN_SAVES = 5.0


class Report:
    """Count what workers do, and keep report.json in the output folder up to date.

    Args:
        folder: the output folder.

    Attributes:
        images: number of images or frames that were segmented.
        failures: items that could not be done.
        retries: number of items that were given to a worker again.
    """

    def __init__(self, folder: Path) -> None:
        self.images, self.retries = 0, 0
        self.failures: list[dict[str, str]] = []
        self._path, self._workers = folder / REPORT, []
        self._began, self._saved = time.monotonic(), 0.0
        self._complete = False

    def add_worker(self, started: Started) -> dict[str, Any]:
        """Note a worker that is ready.

        Args:
            started: its answer.

        Returns:
            Its part of the report: counts and state are the caller's to change.
        """
        entry = {
            "host": started.host,
            "pid": started.pid,
            "device": started.settings.get("device", ""),
            "images": 0,
            "state": "ready",
        }
        self._workers.append(entry)
        self.save()
        return entry

    def fail(self, name: str, reason: str) -> None:
        """Note an item that could not be done.

        Args:
            name: what it is called.
            reason: why it could not be done.
        """
        self.failures.append({"name": name, "reason": reason})

    @property
    def rate(self) -> float:
        """Images per second over all workers, with the time that models take to load."""
        return self.images / max(1e-9, time.monotonic() - self._began)

    def save_now_and_then(self) -> None:
        """Save the report, unless that was done a moment ago."""
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self.save()

    def save_if_incomplete(self) -> None:
        """Save the report of a run that ended early, as far as the disk allows."""
        if not self._complete:
            with contextlib.suppress(OSError):
                self.save()

    def save(self, complete: bool = False) -> None:
        """Write report.json.

        Args:
            complete: whether the run came to its end.

        Raises:
            OSError: where the file cannot be written.
        """
        seconds = time.monotonic() - self._began
        report = {
            "complete": complete,
            "images": self.images,
            "seconds": round(seconds, 2),
            "images_per_second": round(self.rate, 2),
            "retries": self.retries,
            "failures": self.failures,
            "workers": self._workers,
        }
        write_json(self._path, report)
        self._complete = complete
        self._saved = time.monotonic()
