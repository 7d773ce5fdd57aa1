"""Vocabulary requests: received from every kind of publisher exactly once, encoded beside the running one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from synseg_ros.msg import Vocabulary

DEPTH = 10
REMEMBERED = 4 * DEPTH  # more than both subscriptions can have waiting
ECHO_SECONDS = 1.0

Request = tuple[tuple[str, ...], tuple[float, ...]]  # labels, thresholds


class EchoFilter:
    """Tell the second copy of a publication, which came through another subscription, from a new publication.

    A publication is known by its publisher, sequence number and source timestamp. Middlewares that give none
    of them leave only the content: there an equal message counts as a copy for ECHO_SECONDS.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple, float] = OrderedDict()

    def is_new(self, request: Request, info: Mapping[str, Any]) -> bool:
        """Return True the first time that a publication is seen, given rclpy's message info."""
        publisher = (info.get("publisher_gid") or {}).get("data")
        number, stamp = info.get("publication_sequence_number"), info.get("source_timestamp")
        identified = bool(stamp) or (publisher is not None and number is not None)
        key = (publisher, number, stamp, request)
        now, before = self._clock(), self._seen.pop(key, None)
        self._seen[key] = now
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return before is None or (not identified and now - before > ECHO_SECONDS)


class VocabularySubscription:
    """Subscribe a node to a vocabulary so that volatile and latched publishers, early or late, reach it.

    A transient-local subscription gets what latched publishers said before it existed, but is incompatible
    with volatile publishers; a volatile one hears both, but only from now on. So there are two, behind one
    EchoFilter.
    """

    def __init__(self, node: Node, topic: str, on_request: Callable[[Request], None]) -> None:
        self._on_request = on_request
        self._filter = EchoFilter()
        for durability in (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE):
            qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            # rclpy would warn of every volatile publisher that the latched subscription cannot hear it.
            quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
            node.create_subscription(Vocabulary, topic, self._receive, qos, event_callbacks=quiet)

    def _receive(self, message: Vocabulary, info: Mapping[str, Any]) -> None:
        request = (tuple(message.labels), tuple(message.thresholds))
        if self._filter.is_new(request, info):
            self._on_request(request)


class VocabularyEncoder:
    """Prepare requested vocabularies on a thread of their own; of several that wait, only the newest.

    prepare runs on the thread and may take as long as it needs; its result goes to on_ready, its exception to
    on_refused, both called on the thread too. start() begins; stop() ends it.
    """

    def __init__(
        self,
        prepare: Callable[[Request], Any],
        on_ready: Callable[[Any], None],
        on_refused: Callable[[Exception], None],
    ) -> None:
        self._prepare, self._on_ready, self._on_refused = prepare, on_ready, on_refused
        self._waiting: Request | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="synseg-vocabulary", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, request: Request) -> None:
        """Ask for a vocabulary, in place of one that still waits."""
        with self._changed:
            self._waiting = request
            self._changed.notify()

    def stop(self, timeout: float = 10.0) -> None:
        """Forget what waits, and wait until the thread has ended, timeout seconds at most."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting is not None)
                if self._stopping:
                    return
                request, self._waiting = self._waiting, None
            try:
                vocabulary = self._prepare(request)
            except Exception as error:  # a refused vocabulary must not end the node, whatever the reason
                self._on_refused(error)
            else:
                self._on_ready(vocabulary)
