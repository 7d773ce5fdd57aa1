"""The bond that Nav2's lifecycle manager expects of its nodes: heartbeats while the node is active.

Without heartbeats the manager takes the node for dead and ends the whole bringup, unless its bond_timeout is 0. Nav2
brings the package `bond` with the messages. Where it is not installed there is no bond.
"""

from __future__ import annotations

import uuid

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from synseg_ros.interfaces.optional_types import optional_type, required_type

STATUS = "bond/msg/Status"
TOPIC = "bond"
PERIOD = 0.1  # seconds from heartbeat to heartbeat
TIMEOUT = 4.0  # seconds without one after which the other side may take the node for dead
BEATS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def available() -> bool:
    """Tell whether the package `bond` is installed."""
    return optional_type(STATUS) is not None


class Bond:
    """Send heartbeats under the node's name, as a Nav2 node does, until the bond is broken.

    A lifecycle manager bonds with the first instance that sends heartbeats under a name. So each activation is another
    instance.

    Args:
        node: The node that sends the heartbeats.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._instance = node, str(uuid.uuid4())
        self._status = required_type(STATUS)
        self._publisher = node.create_publisher(self._status, TOPIC, BEATS)
        self._timer = node.create_timer(PERIOD, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._beat()

    def break_up(self) -> None:
        """Say that the node is no longer active, and end the heartbeats."""
        self._node.destroy_timer(self._timer)
        if self._node.context.ok():
            self._beat(active=False)
        self._node.destroy_publisher(self._publisher)

    def _beat(self, active: bool = True) -> None:
        message = self._status(id=self._node.get_name(), instance_id=self._instance, active=active)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.heartbeat_period, message.heartbeat_timeout = PERIOD, TIMEOUT
        self._publisher.publish(message)
