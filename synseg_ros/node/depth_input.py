"""What says how far away things are: the subscriptions to a camera's depth and camera_info."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from synseg_ros.interfaces.optional_types import optional_type
from synseg_ros.node.transform_source import TransformSource
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.qos import OVERRIDABLE, subscriber_events
from synseg_ros.space.depth_view import DepthMessages, DepthTopics, DepthView
from synseg_ros.space.stamped_messages import nanoseconds

COMPRESSED_DEPTH = "/compressedDepth"  # where image_transport puts a topic's compressed depth
TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "stereo_msgs/msg/DisparityImage")
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class FrameDepth:
    """Find the depth of a camera's frames. All methods are called on one thread, which is not the executor's.

    Args:
        messages: The messages about the camera's depth.
        transforms: Where transforms come from.
        settings: Returns the settings in force.
    """

    def __init__(
        self, messages: DepthMessages, transforms: TransformSource, settings: Callable[[], NodeSettings]
    ) -> None:
        self._messages, self._transforms, self._settings = messages, transforms, settings
        self._last: tuple[tuple, DepthView | str] | None = None  # of the newest frame, which may be asked for again

    def view(self, header: Header, size: tuple[int, int]) -> DepthView | str:
        """Find the depth of a frame; it may wait a moment for what is still under way.

        Args:
            header: Header of the frame.
            size: (H, W) of the frame in pixels.

        Returns:
            The depth, or why there is none.
        """
        frame, settings = (nanoseconds(header), header.frame_id, size), self._settings()
        if self._last is None or self._last[0] != frame:
            tolerance, wait = settings.depth_tolerance, settings.position_wait
            self._last = (frame, self._messages.view(header, size, tolerance, self.lookup, wait=wait))
        return self._last[1]

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """Find the transform from one frame to another; it may wait a moment for what is still under way.

        Args:
            target: The frame to transform to.
            source: The frame to transform from.
            stamp: The time in nanoseconds.

        Returns:
            (4, 4) float64; it takes points from `source` to `target`.

        Raises:
            TransformError: It is not available; the text says why.
        """
        return self._transforms.lookup(target, source, stamp, self._settings().position_wait)

    def forget_failure(self) -> None:
        """Look again if the newest frame is asked for once more, as when a player sends it twice."""
        if self._last is not None and isinstance(self._last[1], str):
            self._last = None


class DepthInput:
    """Subscribe to a camera's depth while the node is active. All methods are called on the executor's thread.

    Args:
        node: The node that subscribes.
        topics: What it subscribes to, resolved.
        settings: Returns the settings in force.
        transforms: Where transforms come from.

    Attributes:
        of_frames: The depth of frames, for the worker's thread.
    """

    def __init__(
        self, node: Node, topics: DepthTopics, settings: Callable[[], NodeSettings], transforms: TransformSource
    ) -> None:
        self.topics, self.messages = topics, DepthMessages(topics)
        self._node, self._settings, self._transforms = node, settings, transforms
        self.of_frames = self.for_another_thread()
        self._depth: Subscription | None = None
        self._infos: list[Subscription] = []

    def for_another_thread(self) -> FrameDepth:
        """Return the depth of frames, for one more thread."""
        return FrameDepth(self.messages, self._transforms, self._settings)

    def listen(self) -> None:
        """Subscribe."""
        self._depth = self._subscribe(*self._source(), self.messages.images.add)
        self._infos = [self._subscribe(CameraInfo, self.topics.info, self.messages.infos.add)]
        if self.topics.depth_info != self.topics.info:
            self._infos.append(self._subscribe(CameraInfo, self.topics.depth_info, self.messages.depth_infos.add))

    def follow(self) -> None:
        """Subscribe anew if depth turns out to be published as another type, or on the other topic."""
        kind, topic = self._source()
        if self._depth is not None and (self._depth.msg_type is not kind or self._depth.topic_name != topic):
            self._node.get_logger().info(f"subscribing to {topic}, of type {kind.__name__}")
            self._node.destroy_subscription(self._depth)
            self._depth = self._subscribe(kind, topic, self.messages.images.add)

    def ignore(self) -> None:
        """End the subscriptions, and forget what arrived."""
        for subscription in filter(None, (self._depth, *self._infos)):
            self._node.destroy_subscription(subscription)
        self._depth, self._infos = None, []
        self.messages.clear()

    def age(self) -> float:
        """Return for how many seconds no depth image has arrived; inf before the first one."""
        return self.messages.images.age()

    def _source(self) -> tuple[type, str]:
        """Choose the type and the topic to subscribe to, by the publishers at present."""
        topic = self.topics.depth
        found = self._published(topic)
        if not found and CompressedImage in self._published(topic + COMPRESSED_DEPTH):
            return CompressedImage, topic + COMPRESSED_DEPTH
        guess = CompressedImage if topic.endswith(COMPRESSED_DEPTH) else Image
        return (found or [guess])[0], topic

    def _published(self, topic: str) -> list[type]:
        """Return the types with depth that are published on a topic at present."""
        published = {end.topic_type for end in self._node.get_publishers_info_by_topic(topic)}
        return [kind for kind in (optional_type(name) for name in TYPES if name in published) if kind]

    def _subscribe(self, kind: type, topic: str, take: Callable[[Any], None]) -> Subscription:
        return self._node.create_subscription(
            kind,
            topic,
            take,
            copy(SENSOR),  # rclpy writes the overrides into the profile that it is given
            event_callbacks=subscriber_events(self._node, topic),
            qos_overriding_options=OVERRIDABLE,
        )
