"""The thread that prepares vocabularies while frames are segmented with the running one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from synseg_ros.node.job_thread import JobThread

Request = TypeVar("Request")
Prepared = TypeVar("Prepared")


class VocabularyEncoder(JobThread, Generic[Request, Prepared]):
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
        super().__init__("synseg-vocabulary")
        self._prepare, self._on_ready, self._on_refused = prepare, on_ready, on_refused
        self._afterwards = afterwards
        self._waiting: dict[str, Request] = {}  # by client, in the order in which they came

    def request(self, request: Request, client: str = "") -> Request | None:
        """Ask for a vocabulary, in place of one of the same client that still waits, which is returned."""
        with self._changed:
            replaced = self._waiting.get(client)
            self._waiting[client] = request  # a client that asks again keeps its place
            self._changed.notify()
        return replaced

    def _has_work(self) -> bool:
        return bool(self._waiting)

    def _next_job(self) -> Callable[[], None]:
        return partial(self._work_on, self._waiting.pop(next(iter(self._waiting))))

    def _work_on(self, request: Request) -> None:
        try:
            prepared = self._prepare(request)
        except Exception as error:  # a refused vocabulary must not end the node, whatever the reason
            self._on_refused(request, error)
        else:
            self._on_ready(prepared)
        self._afterwards(self._is_busy)

    def _is_busy(self) -> bool:
        with self._changed:
            return self._stopping or self._has_work()
