"""The bond that Nav2's lifecycle manager expects of its nodes: heartbeats while the node is active.

Without it the manager takes the node for dead and ends the whole bringup, unless its bond_timeout is 0. The messages
are those of the package `bond`, which Nav2 brings; where it is not installed there is no bond.
"""

from __future__ import annotations

import uuid

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

try:
    from bond.msg import Status
except ImportError:  # it is a package of its own, and not everybody has it
    Status = None

TOPIC = "bond"
PERIOD = 0.1  # seconds from heartbeat to heartbeat
TIMEOUT = 4.0  # seconds without one after which the other side may take the node for dead
BEATS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def available() -> bool:
    """Tell whether the messages are installed."""
    return Status is not None


class Bond:
    """Send heartbeats under the node's name, as a Nav2 node does, until it is broken.

    The other side, a lifecycle manager, bonds with the first who does so under a name: each activation is another one.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._instance = node, str(uuid.uuid4())
        self._publisher = node.create_publisher(Status, TOPIC, BEATS)
        self._timer = node.create_timer(PERIOD, self._beat, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._beat()

    def break_up(self) -> None:
        """Say that the node is no longer there, and end the heartbeats."""
        self._node.destroy_timer(self._timer)
        if self._node.context.ok():
            self._beat(active=False)
        self._node.destroy_publisher(self._publisher)

    def _beat(self, active: bool = True) -> None:
        message = Status(id=self._node.get_name(), instance_id=self._instance, active=active)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.heartbeat_period, message.heartbeat_timeout = PERIOD, TIMEOUT
        self._publisher.publish(message)
