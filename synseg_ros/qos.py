"""Quality of service of every topic, in one place, and what to say where two sides do not fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

# Frames into the node: only the newest is of interest.
NEWEST_FRAME = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

# Reliable, because some consumers ask for it and the others accept it; a slow one misses old messages.
OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)

# For messages that must not be missed, by publishers and subscribers that keep up.
EVERY_MESSAGE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)

# Like EVERY_MESSAGE, and subscribers that come late get what was said before, too.
EVERY_MESSAGE_SO_FAR = QoSProfile(
    depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# What parameters qos_overrides.TOPIC.subscription.POLICY and ...publisher.POLICY may change at the start.
OVERRIDABLE = QoSOverridingOptions(
    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
)

# Of the two policies that have an order: what the subscriber asked for and the publisher does not offer.
_ASKED = {
    QoSPolicyKind.RELIABILITY: ("RELIABLE", "BEST_EFFORT"),
    QoSPolicyKind.DURABILITY: ("TRANSIENT_LOCAL", "VOLATILE"),
}


def remedy_for_losses(topic: str, environment: Mapping[str, str] = os.environ) -> str:
    """Say what helps where the frames of a topic are lost on their way, in the ROS environment of this process.

    In the discovery range LOCALHOST, rmw_fastrtps chooses the transports itself and ignores those that are asked for.
    """
    if not environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps"):
        return "larger buffers of the middleware help, or a reliable connection"
    reliable = (
        f"start this node with -p qos_overrides.{topic}.subscription.reliability:=reliable, and let the camera's "
        "driver publish with reliability reliable, too"
    )
    range_ = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    if range_ == "LOCALHOST" or (not range_ and environment.get("ROS_LOCALHOST_ONLY") == "1"):
        return f"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST makes Fast DDS ignore larger buffers: {reliable}"
    return (
        "with Fast DDS, start the camera's driver with "
        'FASTDDS_BUILTIN_TRANSPORTS="DEFAULT?sockets_size=8MB" (it has no effect where '
        f"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST is set); or {reliable}"
    )


def subscriber_events(
    node: Node, topic: str, overridable: bool = True, ignored: tuple[QoSPolicyKind, ...] = ()
) -> SubscriptionEventCallbacks:
    """Make the callbacks of a subscription that warn of publishers it cannot hear, except for the ignored policies."""

    def warn(event: Any) -> None:
        kind = QoSPolicyKind(int(event.last_policy_kind))
        if kind not in ignored:
            names = _named(node.get_publishers_info_by_topic(topic), kind, offering=True)
            node.get_logger().warning(mismatch(topic, kind, "publisher", names, overridable))

    return SubscriptionEventCallbacks(incompatible_qos=warn)


def publisher_events(node: Node, topic: str, overridable: bool = True) -> PublisherEventCallbacks:
    """Make the callbacks of a publisher that warn of subscribers which cannot hear it."""

    def warn(event: Any) -> None:
        kind = QoSPolicyKind(int(event.last_policy_kind))
        names = _named(node.get_subscriptions_info_by_topic(topic), kind, offering=False)
        node.get_logger().warning(mismatch(topic, kind, "subscriber", names, overridable))

    return PublisherEventCallbacks(incompatible_qos=warn)


def mismatch(topic: str, kind: QoSPolicyKind, other: str, names: str = "", overridable: bool = True) -> str:
    """Say what does not fit on a topic, both sides' policies, and what to change.

    other: which side is somebody else's, "publisher" or "subscriber"; names: of the nodes there, if known. overridable:
    whether our side can be changed by a parameter.
    """
    who = f"the {other}" + (f" in {names}" if names else "")
    policy = kind.name.lower()
    asked, offered = _ASKED.get(kind, ("a stricter one", "a laxer one"))
    if other == "publisher":
        said = f"is not heard, because its {policy} is {offered} and this node asks for {asked}"
        fix, ours, ending = f"Let it publish with {policy} {asked}", offered.lower(), "subscription"
    else:
        said = f"hears nothing, because it asks for {policy} {asked} and this node offers {offered}"
        fix, ours, ending = f"Let it subscribe with {policy} {offered}", asked.lower(), "publisher"
    if overridable and kind in _ASKED:
        fix += f", or start this node with -p qos_overrides.{topic}.{ending}.{policy}:={ours}"
    return f"{topic}: {who} {said}. {fix}"


def _named(endpoints: list, kind: QoSPolicyKind, offering: bool) -> str:
    """Name the nodes of endpoints whose policy is the one that does not fit; of all, if that is not told by it."""
    asked, offered = _ASKED.get(kind, ("", ""))
    unfit = {offered if offering else asked, ""}
    names = {
        f"{end.node_namespace.rstrip('/')}/{end.node_name}"
        for end in endpoints
        if getattr(getattr(end.qos_profile, kind.name.lower(), None), "name", "") in unfit
    }
    return ", ".join(sorted(names))
