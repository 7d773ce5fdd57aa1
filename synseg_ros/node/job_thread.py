"""A thread that does one job after the other; what it does next is its owner's affair."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable


class JobThread(ABC):
    """Do jobs until the end is asked for. Whoever adds work holds `_changed`, and notifies it.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Forget what waits, and end the thread.

        Args:
            timeout: Seconds to wait for its end.

        Returns:
            False where it still works.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @abstractmethod
    def _has_work(self) -> bool:
        """Tell whether a job waits; called with `_changed` held."""

    @abstractmethod
    def _next_job(self) -> Callable[[], None]:
        """Take the next job from those that wait; called with `_changed` held."""

    def _failed(self, error: Exception) -> None:
        """Take what a job raised; by default the thread ends with it."""
        raise error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._has_work())
                if self._stopping:
                    return
                job = self._next_job()
            try:
                job()
            except Exception as error:
                self._failed(error)
            del job  # which may hold images, and the next one may be long in coming
