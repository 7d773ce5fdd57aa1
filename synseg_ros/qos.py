"""QoS of every topic, in one place, and warnings of publishers and subscribers with incompatible QoS."""

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

# Reliable, because some subscribers ask for it and the others accept it; a slow one misses old messages.
OUTPUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)

# For messages that must not be missed, between publishers and subscribers that keep up.
EVERY_MESSAGE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)

# Like EVERY_MESSAGE; subscribers that come late get the earlier messages, too.
EVERY_MESSAGE_SO_FAR = QoSProfile(
    depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# What parameters qos_overrides.TOPIC.subscription.POLICY and ...publisher.POLICY may change at the start.
OVERRIDABLE = QoSOverridingOptions(
    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
)

# For the two policies that have an order: what the subscriber asks for, and what the publisher offers instead.
_ASKED = {
    QoSPolicyKind.RELIABILITY: ("RELIABLE", "BEST_EFFORT"),
    QoSPolicyKind.DURABILITY: ("TRANSIENT_LOCAL", "VOLATILE"),
}


def remedy_for_losses(topic: str, environment: Mapping[str, str] = os.environ) -> str:
    """Say what helps where the frames of a topic are lost on their way.

    In the discovery range LOCALHOST, rmw_fastrtps chooses the transports itself and ignores those that are asked for.

    Args:
        topic: Topic of the frames.
        environment: Environment variables of this process.
    """
    if not environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps"):
        return "give the middleware larger buffers, or use a reliable connection"
    reliable = (
        f"start this node with -p qos_overrides.{topic}.subscription.reliability:=reliable, and let the camera's "
        "driver publish with reliability RELIABLE, too"
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
    """Make the event callbacks of a subscription, which warn of publishers with incompatible QoS.

    Args:
        node: The node that subscribes, whose logger is used.
        topic: The topic, resolved.
        overridable: Whether a parameter can change the subscription's QoS.
        ignored: Policies without a warning.
    """

    def warn(event: Any) -> None:
        kind = QoSPolicyKind(int(event.last_policy_kind))
        if kind not in ignored:
            names = _named(node.get_publishers_info_by_topic(topic), kind, offering=True)
            node.get_logger().warning(mismatch(topic, kind, "publisher", names, overridable))

    return SubscriptionEventCallbacks(incompatible_qos=warn)


def publisher_events(node: Node, topic: str, overridable: bool = True) -> PublisherEventCallbacks:
    """Make the event callbacks of a publisher, which warn of subscribers with incompatible QoS.

    Args:
        node: The node that publishes, whose logger is used.
        topic: The topic, resolved.
        overridable: Whether a parameter can change the publisher's QoS.
    """

    def warn(event: Any) -> None:
        kind = QoSPolicyKind(int(event.last_policy_kind))
        names = _named(node.get_subscriptions_info_by_topic(topic), kind, offering=False)
        node.get_logger().warning(mismatch(topic, kind, "subscriber", names, overridable))

    return PublisherEventCallbacks(incompatible_qos=warn)


def mismatch(topic: str, kind: QoSPolicyKind, other: str, names: str = "", overridable: bool = True) -> str:
    """Say which QoS is incompatible on a topic, with both sides' policies, and what to change.

    Args:
        topic: The topic.
        kind: The policy that does not fit.
        other: The other node's side, "publisher" or "subscriber".
        names: Names of the other nodes, "" where they are not known.
        overridable: Whether a parameter can change this node's side.
    """
    who = f"{topic}: the {other}" + (f" in {names}" if names else "") + " has incompatible QoS: "
    policy = kind.name.lower()
    if kind not in _ASKED:
        return who + f"its {policy} does not fit this node's. Let both use the same {policy}"
    asked, offered = _ASKED[kind]
    if other == "publisher":
        said = f"its {policy} is {offered} and this node asks for {asked}"
        fix, ours, ending = f"Let it publish with {policy} {asked}", offered.lower(), "subscription"
    else:
        said = f"it asks for {policy} {asked} and this node offers {offered}"
        fix, ours, ending = f"Let it subscribe with {policy} {offered}", asked.lower(), "publisher"
    if overridable:
        fix += f", or start this node with -p qos_overrides.{topic}.{ending}.{policy}:={ours}"
    return f"{who}{said}. {fix}"


def _named(endpoints: list, kind: QoSPolicyKind, offering: bool) -> str:
    """Name the nodes whose policy does not fit; all nodes, where the policy does not show which ones."""
    asked, offered = _ASKED.get(kind, ("", ""))
    unfit = {offered if offering else asked, ""}
    names = {
        f"{end.node_namespace.rstrip('/')}/{end.node_name}"
        for end in endpoints
        if getattr(getattr(end.qos_profile, kind.name.lower(), None), "name", "") in unfit
    }
    return ", ".join(sorted(names))
