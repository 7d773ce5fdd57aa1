"""Vocabulary requests, received from every kind of publisher exactly once."""

from __future__ import annotations

import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from synseg_ros.msg import Vocabulary
from synseg_ros.qos import subscriber_events

DEPTH = 10
REMEMBERED = 4 * DEPTH  # more than both subscriptions can have waiting
ECHO_SECONDS = 1.0
LOOK_SECONDS = 0.2  # from one look for latched publishers to the next
HISTORY_SECONDS = 2.0  # to wait for what a latched publisher said before
_MAY_BE_LATCHED = (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.UNKNOWN, DurabilityPolicy.SYSTEM_DEFAULT)


class VocabularyRequest(NamedTuple):
    """Labels that a client asks for, not checked yet.

    Attributes:
        labels: Any texts.
        thresholds: One per label, or none.
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...] = ()


class EchoFilter:
    """Tell a new publication from a second copy of it, which comes through another subscription.

    A publication is known by its publisher, sequence number and source timestamp. Some middlewares give none of them.
    There an equal message counts as a copy for ECHO_SECONDS. Only a hash of the content is kept, because requests may
    be large.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple, float] = OrderedDict()

    def is_new(self, request: VocabularyRequest, info: Mapping[str, Any]) -> bool:
        """Tell whether a publication is seen for the first time.

        Args:
            request: Its content.
            info: The message's info as rclpy gives it.
        """
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
    """Receive vocabularies from volatile and latched publishers, started early or late.

    A volatile subscription receives from both kinds, but only from now on. What a latched publisher published before
    takes a transient-local subscription. That one makes every volatile publisher log a warning, although its messages
    arrive. So it exists for a moment only, when a latched publisher has appeared. An EchoFilter finds what comes
    through both subscriptions. What is older than its publisher's last request is dropped.

    Args:
        node: The node that subscribes.
        topic: Topic of the vocabularies.
        on_request: Called with each request once, on the executor's thread.
    """

    def __init__(self, node: Node, topic: str, on_request: Callable[[VocabularyRequest], None]) -> None:
        self._on_request = on_request
        self._filter = EchoFilter()
        self._node, self._topic = node, topic
        self._heard: OrderedDict[bytes, int] = OrderedDict()  # the newest number of each publisher
        self._asked: set[tuple[int, ...]] = set()  # latched publishers whose history was received
        self._history: Subscription | None = None
        self._history_ends = 0.0
        self._live = self._subscribe(DurabilityPolicy.VOLATILE)
        self._timer = node.create_timer(LOOK_SECONDS, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._look()

    def close(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._live)
        self._end_history()

    def _subscribe(self, durability: DurabilityPolicy) -> Subscription:
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        # Only the one that stays may warn of a publisher with incompatible QoS.
        passing = durability == DurabilityPolicy.TRANSIENT_LOCAL
        ignored = (QoSPolicyKind.DURABILITY, QoSPolicyKind.RELIABILITY) if passing else ()
        events = subscriber_events(self._node, self._node.resolve_topic_name(self._topic), False, ignored)
        return self._node.create_subscription(
            Vocabulary, self._topic, partial(self._take, passing), qos, event_callbacks=events, raw=True
        )

    def _look(self) -> None:
        """Receive what latched publishers published before, once for each, and stop when no more of it comes."""
        ends = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(self._topic))
        latched = {tuple(end.endpoint_gid) for end in ends if end.qos_profile.durability in _MAY_BE_LATCHED}
        new, self._asked = latched - self._asked, latched
        now = time.monotonic()
        if new:
            self._end_history()
            self._history = self._subscribe(DurabilityPolicy.TRANSIENT_LOCAL)
            self._history_ends = now + HISTORY_SECONDS
        elif now > self._history_ends:
            self._end_history()

    def _end_history(self) -> None:
        if self._history is not None:
            self._node.destroy_subscription(self._history)
            self._history = None

    def _take(self, passing: bool, data: bytes, info: Mapping[str, Any]) -> None:
        message = deserialize_message(data, Vocabulary)
        restore_nul(message, data)
        del data  # which may be large
        self._receive(passing, message, info)

    def _receive(self, passing: bool, message: Vocabulary, info: Mapping[str, Any]) -> None:
        if passing:
            self._history_ends = time.monotonic() + HISTORY_SECONDS
        request = VocabularyRequest(tuple(message.labels), tuple(message.thresholds))
        if self._filter.is_new(request, info) and self._is_newest(info):
            self._on_request(request)

    def _is_newest(self, info: Mapping[str, Any]) -> bool:
        publisher = (info.get("publisher_gid") or {}).get("data")
        number = info.get("publication_sequence_number")
        if publisher is None or number is None:
            return True
        before = self._heard.pop(publisher, number)
        self._heard[publisher] = max(before, number)
        while len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
        return number >= before


def restore_nul(message: Vocabulary, data: bytes) -> None:
    """Restore labels with a NUL, which rclpy cuts at the NUL without a word.

    As they were sent, they are refused with the reason.

    Args:
        message: The message as rclpy read it; its labels are changed in place.
        data: The bytes (CDR) that it was read from. Bytes that are no Vocabulary change nothing.
    """
    order, position = ("<" if data[1:2] == b"\1" else ">"), 8
    for index, label in enumerate(message.labels):
        position += -position % 4
        if position + 4 > len(data):
            return
        (size,) = struct.unpack_from(f"{order}I", data, position)
        if size - 1 != len(label.encode("utf-8", "surrogatepass")):
            sent = data[position + 4 : position + 3 + size]
            if b"\0" in sent:
                message.labels[index] = sent.decode("utf-8", "replace")
        position += 4 + size
