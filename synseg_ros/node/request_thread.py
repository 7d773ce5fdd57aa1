"""The thread that works on requests: it checks and encodes labels and reads images, while frames go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from synseg_ros.node.job_thread import JobThread


class RequestThread(JobThread):
    """Do jobs in the order in which they come.

    Args:
        on_error: Gets an exception that a job raised; the thread goes on.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        super().__init__("synseg-requests")
        self._on_error = on_error
        self._jobs: deque[Callable[[], None]] = deque()

    def put(self, job: Callable[[], None]) -> None:
        """Do a job after those that wait."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def _has_work(self) -> bool:
        return bool(self._jobs)

    def _next_job(self) -> Callable[[], None]:
        return self._jobs.popleft()

    def _failed(self, error: Exception) -> None:
        self._on_error(error)
