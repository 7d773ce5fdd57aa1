"""The thread that works on requests: it checks and encodes labels and reads images, while frames go on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class RequestThread:
    """Do jobs in the order in which they come.

    Args:
        on_error: Gets an exception that a job raised; the thread goes on.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._jobs: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="synseg-requests", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, job: Callable[[], None]) -> None:
        """Do a job after those that wait."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def stop(self, timeout: float = 10.0) -> bool:
        """Forget what waits; return True when the thread has ended, within timeout seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._jobs)
                if self._stopping:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception as error:
                self._on_error(error)
            del job  # which may hold an image
