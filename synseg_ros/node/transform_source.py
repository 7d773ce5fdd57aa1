"""Where the node's transforms come from: tf2_ros where it is installed, else its own subscriptions to /tf.

Without tf2_ros and tf2_msgs there are no transforms, and a lookup says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.time import Time

from synseg_model.instances import transform_matrix
from synseg_ros.interfaces.optional_types import optional_type
from synseg_ros.node.rate_limit import RateLimit
from synseg_ros.space.transform_buffer import KEPT_SECONDS, TransformBuffer, TransformError

# The QoS of tf2_ros.
MOVING = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
NOT_AVAILABLE = "transform not available: "
Find = Callable[[str, str, int, float], np.ndarray]  # see TransformSource.lookup


class TransformSource:
    """Look transforms up for one node; it subscribes to /tf and /tf_static from the first lookup until it is destroyed.

    `lookup` may be called on any thread but the executor's, which takes the transforms.

    Args:
        node: The node that subscribes.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._subscribed: tuple[Find, Callable[[], None]] | None = None

    def lookup(self, target: str, source: str, stamp: int, timeout: float = 0.0) -> np.ndarray:
        """Find the transform from one frame to another at a time.

        Args:
            target: The frame to transform to.
            source: The frame to transform from.
            stamp: The time in nanoseconds.
            timeout: Seconds to wait for transforms that are still under way.

        Returns:
            (4, 4) float64; it takes points from `source` to `target`.

        Raises:
            TransformError: It is not available; the text says why.
        """
        if target.lstrip("/") == source.lstrip("/"):
            return np.eye(4)
        with self._lock:
            self._subscribed = self._subscribed or _subscribe(self._node)
        try:
            return self._subscribed[0](target, source, stamp, timeout)
        except TransformError as error:
            raise TransformError(f"{NOT_AVAILABLE}{error}") from None

    def destroy(self) -> None:
        """End the subscriptions."""
        with self._lock:
            subscribed, self._subscribed = self._subscribed, None
        if subscribed:
            subscribed[1]()


def _subscribe(node: Node) -> tuple[Find, Callable[[], None]]:
    try:
        return _with_tf2_ros(node)
    except ImportError:
        return _with_own_buffer(node)


def _with_tf2_ros(node: Node) -> tuple[Find, Callable[[], None]]:
    """Use tf2_ros; raise ImportError where it is not installed."""
    tf2_ros = import_module("tf2_ros")
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=KEPT_SECONDS))
    listener = tf2_ros.TransformListener(buffer, node)

    def find(target: str, source: str, stamp: int, timeout: float) -> np.ndarray:
        asked = target.lstrip("/"), source.lstrip("/"), Time(nanoseconds=stamp)
        try:
            try:
                found = buffer.lookup_transform(*asked)
            except tf2_ros.ExtrapolationException:  # it may only be a little late
                found = buffer.lookup_transform(*asked, Duration(seconds=timeout))
        except tf2_ros.TransformException as error:
            raise TransformError(" ".join(str(error).split())) from None
        return transform_matrix(*_numbers(found.transform))

    return find, listener.unregister


def _with_own_buffer(node: Node) -> tuple[Find, Callable[[], None]]:
    kind = optional_type("tf2_msgs/msg/TFMessage")
    if kind is None:
        return _without, lambda: None
    buffer, warnings = TransformBuffer(), RateLimit(60.0)

    def take(message: Any, static: bool) -> None:
        for one in message.transforms:
            stamp = one.header.stamp.sec * 10**9 + one.header.stamp.nanosec
            quaternion, translation = _numbers(one.transform)
            try:
                buffer.add(one.header.frame_id, one.child_frame_id, stamp, translation, quaternion, static)
            except ValueError as error:
                if warnings.admit() is not None:
                    node.get_logger().warning(f"ignored a transform of {'/tf_static' if static else '/tf'}: {error}")

    subscriptions = [
        node.create_subscription(kind, topic, partial(take, static=static), qos)
        for topic, static, qos in (("/tf", False, MOVING), ("/tf_static", True, STATIC))
    ]

    def end() -> None:
        for subscription in subscriptions:
            node.destroy_subscription(subscription)

    return buffer.lookup, end


def _without(target: str, source: str, stamp: int, timeout: float) -> np.ndarray:
    raise TransformError("neither tf2_ros nor tf2_msgs is installed: install ros-$ROS_DISTRO-tf2-ros-py")


def _numbers(transform: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the quaternion and the translation of a geometry_msgs/Transform."""
    r, t = transform.rotation, transform.translation
    return (r.x, r.y, r.z, r.w), (t.x, t.y, t.z)
