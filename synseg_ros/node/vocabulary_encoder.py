"""The thread that prepares vocabularies while frames are segmented with the running one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from synseg_ros.node.vocabulary_input import VocabularyRequest


class VocabularyEncoder:
    """Prepare requested vocabularies on a thread of their own; if several wait, only the newest.

    Args:
        prepare: Prepares a vocabulary; may take as long as it needs.
        on_ready: Gets what `prepare` returns.
        on_refused: Gets the exception that `prepare` raises.
        afterwards: Called when `on_ready` or `on_refused` is done, for work that is not urgent. It gets a function that
            tells whether other work waits, so that it gives up.

    All four are called on the thread.
    """

    def __init__(
        self,
        prepare: Callable[[VocabularyRequest], Any],
        on_ready: Callable[[Any], None],
        on_refused: Callable[[Exception], None],
        afterwards: Callable[[Callable[[], bool]], None] = lambda busy: None,
    ) -> None:
        self._prepare, self._on_ready, self._on_refused = prepare, on_ready, on_refused
        self._afterwards = afterwards
        self._waiting: VocabularyRequest | None = None
        self._ready: VocabularyRequest | None = None  # what was prepared last
        self._again = self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="synseg-vocabulary", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, request: VocabularyRequest) -> None:
        """Ask for a vocabulary, in place of one that still waits.

        Args:
            request: Labels and thresholds, not checked yet.
        """
        with self._changed:
            self._waiting = request
            self._changed.notify()

    def again(self) -> None:
        """Prepare once more what was ready last, unless a newer request waits."""
        with self._changed:
            self._again = True
            self._changed.notify()

    def stop(self, timeout: float = 10.0) -> bool:
        """Forget what waits, and end the thread.

        Args:
            timeout: Seconds to wait for its end.

        Returns:
            False where it still works.
        """
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
                request, self._waiting, self._again = self._waiting or self._ready, None, False
            try:
                vocabulary = self._prepare(request)
            except Exception as error:  # a refused vocabulary must not end the node, whatever the reason
                self._on_refused(error)
            else:
                self._ready = request
                self._on_ready(vocabulary)
            self._afterwards(self._is_busy)
            del request  # which may be large, and the next one may be long in coming

    def _is_busy(self) -> bool:
        with self._changed:
            return self._has_work()

    def _has_work(self) -> bool:
        return self._stopping or self._waiting is not None or (self._again and self._ready is not None)
