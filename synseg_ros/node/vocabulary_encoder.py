"""The thread that prepares vocabularies while frames are segmented with the running one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Request = TypeVar("Request")
Prepared = TypeVar("Prepared")


class VocabularyEncoder(Generic[Request, Prepared]):
    """Prepare requested vocabularies on a thread of their own, in turn; of one client's that wait, only the newest.

    All functions that it gets are called on the thread.

    Args:
        prepare: Prepares a request; it may take as long as it needs.
        on_ready: Gets what was prepared.
        on_refused: Gets a request and the exception that its preparation raised.
        afterwards: Called when a request is done with, for what is not urgent; it gets what tells whether to give that
            up, as there is other work.
    """

    def __init__(
        self,
        prepare: Callable[[Request], Prepared],
        on_ready: Callable[[Prepared], None],
        on_refused: Callable[[Request, Exception], None],
        afterwards: Callable[[Callable[[], bool]], None] = lambda busy: None,
    ) -> None:
        self._prepare, self._on_ready, self._on_refused = prepare, on_ready, on_refused
        self._afterwards = afterwards
        self._waiting: dict[str, Request] = {}  # by client, in the order in which they came
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="synseg-vocabulary", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, request: Request, client: str = "") -> Request | None:
        """Ask for a vocabulary, in place of one of the same client that still waits, which is returned."""
        with self._changed:
            replaced = self._waiting.get(client)
            self._waiting[client] = request  # a client that asks again keeps its place
            self._changed.notify()
        return replaced

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
                self._changed.wait_for(self._has_work)
                if self._stopping:
                    return
                request = self._waiting.pop(next(iter(self._waiting)))
            try:
                prepared = self._prepare(request)
            except Exception as error:  # a refused vocabulary must not end the node, whatever the reason
                self._on_refused(request, error)
            else:
                self._on_ready(prepared)
            self._afterwards(self._is_busy)
            request = prepared = None  # which may be large, and the next one may be long in coming

    def _is_busy(self) -> bool:
        with self._changed:
            return self._has_work()

    def _has_work(self) -> bool:
        return self._stopping or bool(self._waiting)
