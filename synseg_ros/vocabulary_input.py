"""Vocabulary requests: received from every kind of publisher exactly once, prepared while the running one serves."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy

from synseg_ros.msg import Vocabulary
from synseg_ros.qos import subscriber_events

DEPTH = 10
REMEMBERED = 4 * DEPTH  # more than both subscriptions can have waiting
ECHO_SECONDS = 1.0

Request = tuple[tuple[str, ...], tuple[float, ...]]  # labels, thresholds


class EchoFilter:
    """Tell the second copy of a publication, which came through another subscription, from a new publication.

    A publication is known by its publisher, sequence number and source timestamp. Middlewares that give none
    of them leave only the content: there an equal message counts as a copy for ECHO_SECONDS. Of the content only a hash
    is kept, because requests may be large.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple, float] = OrderedDict()

    def is_new(self, request: Request, info: Mapping[str, Any]) -> bool:
        """Return True the first time that a publication is seen, given rclpy's message info."""
        publisher = (info.get("publisher_gid") or {}).get("data")
        number, stamp = info.get("publication_sequence_number"), info.get("source_timestamp")
        identified = bool(stamp) or (publisher is not None and number is not None)
        key = (publisher, number, stamp, hash(request))
        now, before = self._clock(), self._seen.pop(key, None)
        self._seen[key] = now
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return before is None or (not identified and now - before > ECHO_SECONDS)


class VocabularySubscription:
    """Subscribe a node to a vocabulary so that volatile and latched publishers, early or late, reach it.

    A transient-local subscription gets what latched publishers said before it existed, but is incompatible
    with volatile publishers; a volatile one hears both, but only from now on. So there are two, behind one
    EchoFilter. close() ends them.
    """

    def __init__(self, node: Node, topic: str, on_request: Callable[[Request], None]) -> None:
        self._on_request = on_request
        self._filter = EchoFilter()
        self._node = node
        self._subscriptions = []
        for durability in (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE):
            qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            # Only one of the two may warn of a publisher that neither hears, and volatile ones are heard by the other.
            latched = durability == DurabilityPolicy.TRANSIENT_LOCAL
            ignored = (QoSPolicyKind.DURABILITY, QoSPolicyKind.RELIABILITY) if latched else ()
            events = subscriber_events(node, node.resolve_topic_name(topic), False, ignored)
            self._subscriptions.append(
                node.create_subscription(Vocabulary, topic, self._receive, qos, event_callbacks=events)
            )

    def close(self) -> None:
        """End both subscriptions."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def _receive(self, message: Vocabulary, info: Mapping[str, Any]) -> None:
        request = (tuple(message.labels), tuple(message.thresholds))
        if self._filter.is_new(request, info):
            self._on_request(request)


class VocabularyEncoder:
    """Prepare requested vocabularies on a thread of their own; of several that wait, only the newest.

    prepare runs on the thread and may take as long as it needs; its result goes to on_ready, its exception to
    on_refused, both called on the thread too. again() prepares once more what was ready last, unless something newer
    waits. start() begins; stop() ends it.

    afterwards is called on the thread when on_ready or on_refused is done, for what is not urgent; it gets what tells
    whether to give that up, as there is other work.
    """

    def __init__(
        self,
        prepare: Callable[[Request], Any],
        on_ready: Callable[[Any], None],
        on_refused: Callable[[Exception], None],
        afterwards: Callable[[Callable[[], bool]], None] = lambda busy: None,
    ) -> None:
        self._prepare, self._on_ready, self._on_refused = prepare, on_ready, on_refused
        self._afterwards = afterwards
        self._waiting: Request | None = None
        self._ready: Request | None = None  # what was prepared last
        self._again = self._stopping = False
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

    def again(self) -> None:
        """Ask for what was ready last once more."""
        with self._changed:
            self._again = True
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
