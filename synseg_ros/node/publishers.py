"""Publishers of the node's outputs: with QoS that can be overridden, and a warning of subscribers it excludes."""

from __future__ import annotations

from copy import copy

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile

from synseg_ros.qos import OVERRIDABLE, publisher_events


def create_output(node: Node, kind: type, topic: str, qos: QoSProfile, overridable: bool = True) -> Publisher:
    """Create a publisher that warns of subscribers with incompatible QoS.

    Args:
        node: The node that publishes.
        kind: Type of the messages.
        topic: Name of the topic.
        qos: Its QoS; the profile itself is not changed.
        overridable: Whether parameters qos_overrides.TOPIC.publisher.POLICY may change the QoS at the start.
    """
    return node.create_publisher(
        kind,
        topic,
        copy(qos),  # rclpy writes the overrides into the profile that it is given
        event_callbacks=publisher_events(node, node.resolve_topic_name(topic), overridable),
        qos_overriding_options=OVERRIDABLE if overridable else None,
    )


def has_subscriber(publisher: Publisher) -> bool:
    """Tell whether a publisher has a subscriber at present.

    Args:
        publisher: The publisher.
    """
    return publisher.get_subscription_count() > 0
