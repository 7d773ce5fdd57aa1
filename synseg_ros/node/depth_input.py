"""What says how far away things are: a camera's depth images and camera_info, and the view of one frame from them."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from synseg_model.instances import Intrinsics, register
from synseg_model.instances.positions import depth_problem
from synseg_ros.interfaces.depth_images import depth_of, intrinsics_of
from synseg_ros.interfaces.image_encodings import FrameError
from synseg_ros.interfaces.optional_types import optional_type
from synseg_ros.node.stamped_messages import StampedMessages, nanoseconds
from synseg_ros.node.transform_buffer import TransformError
from synseg_ros.node.transform_source import TransformSource
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.qos import OVERRIDABLE, subscriber_events

COMPRESSED_DEPTH = "/compressedDepth"  # where image_transport puts a topic's compressed depth
MOST_DEPTH_IMAGES = 45  # 1.5 s at 30 Hz, so that a frame still finds its own after a slow engine; 28 MB at 640x480
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
SAME_CAMERA = 0.01  # relative difference of focal lengths up to which two cameras of one frame show the same view
SAME_CENTER = 0.01  # the same for principal points, as a share of the image's width


@dataclass(frozen=True)
class DepthTopics:
    """The topics that one camera's positions come from, resolved.

    Attributes:
        depth: Topic of the depth images.
        info: Topic of the camera's camera_info.
        depth_info: Topic of the depth camera's camera_info.
    """

    depth: str
    info: str
    depth_info: str


@dataclass(frozen=True)
class DepthView:
    """The depth of one frame, as its camera sees it.

    Attributes:
        depth: (h, w) float32 in metres, NaN where there is none; of the whole frame, at any resolution.
        intrinsics: The camera's.
    """

    depth: np.ndarray
    intrinsics: Intrinsics


class DepthInput:
    """Subscribe to a camera's depth while the node is active, and find the depth of a frame.

    `view` and `forget_failure` are called on the worker's thread, all else on the executor's.

    Args:
        node: The node that subscribes.
        topics: What it subscribes to.
        settings: Returns the settings in force.
        transforms: Where the transforms between the two cameras come from.
    """

    def __init__(
        self, node: Node, topics: DepthTopics, settings: Callable[[], NodeSettings], transforms: TransformSource
    ) -> None:
        self.topics = topics
        self._node, self._settings, self._transforms = node, settings, transforms
        self._images = StampedMessages("depth image", MOST_DEPTH_IMAGES)
        self._infos = StampedMessages("camera_info", 1)
        self._depth_infos = StampedMessages("camera_info of the depth camera", 1)
        self._depth: Subscription | None = None
        self._others: list[Subscription] = []
        self._last: tuple[tuple, DepthView | str] | None = None  # of the newest frame, which may be asked for again

    def listen(self) -> None:
        """Subscribe."""
        self._depth = self._subscribe(*self._source(), self._images.add)
        self._others = [self._subscribe(CameraInfo, self.topics.info, self._infos.add)]
        if self.topics.depth_info != self.topics.info:
            self._others.append(self._subscribe(CameraInfo, self.topics.depth_info, self._depth_infos.add))

    def follow(self) -> None:
        """Subscribe anew if depth turns out to be published as another type, or on the other topic."""
        kind, topic = self._source()
        if self._depth is not None and (self._depth.msg_type is not kind or self._depth.topic_name != topic):
            self._node.get_logger().info(f"subscribing to {topic}, of type {kind.__name__}")
            self._node.destroy_subscription(self._depth)
            self._depth = self._subscribe(kind, topic, self._images.add)

    def ignore(self) -> None:
        """End the subscriptions, and forget what arrived."""
        for subscription in filter(None, (self._depth, *self._others)):
            self._node.destroy_subscription(subscription)
        self._depth, self._others = None, []
        for messages in (self._images, self._infos, self._depth_infos):
            messages.clear()

    def age(self) -> float:
        """Return for how many seconds no depth image has arrived; inf before the first one."""
        return self._images.age()

    def view(self, header: Header, size: tuple[int, int]) -> DepthView | str:
        """Find the depth of a frame; it may wait a moment for what is still under way.

        Args:
            header: Header of the frame.
            size: (H, W) of the frame in pixels.

        Returns:
            The depth, or why there is none.
        """
        frame = (nanoseconds(header), header.frame_id, size)
        if self._last is None or self._last[0] != frame:
            try:
                self._last = (frame, self._find(header, size))
            except (FrameError, TransformError, ValueError) as error:
                self._last = (frame, str(error))
        return self._last[1]

    def forget_failure(self) -> None:
        """Look again if the newest frame is asked for once more, as when a player sends it twice."""
        if self._last is not None and isinstance(self._last[1], str):
            self._last = None

    def _find(self, header: Header, size: tuple[int, int]) -> DepthView | str:
        settings, stamp = self._settings(), nanoseconds(header)
        if not stamp:
            return "the image has no stamp, so that no depth image can belong to it"
        message = self._images.nearest(stamp, settings.depth_tolerance, settings.position_wait)
        if isinstance(message, str):
            return f"{message} on {self.topics.depth}"
        info = self._infos.newest()
        if info is None:
            return f"no camera_info has arrived on {self.topics.info}"
        if info.header.frame_id and info.header.frame_id != header.frame_id:
            return (
                f"the camera_info on {self.topics.info} is of the frame {info.header.frame_id!r}, and the image of "
                f"{header.frame_id!r}: set camera_info_topics"
            )
        camera = intrinsics_of(info)
        if camera.problem:
            return f"{self.topics.info}: {camera.problem}"
        depth, depth_frame = depth_of(message), message.header.frame_id or header.frame_id
        depth_info = info if self.topics.depth_info == self.topics.info else self._depth_infos.newest()
        depth_camera = None if depth_info is None else intrinsics_of(depth_info)
        if depth_frame == header.frame_id and (depth_camera is None or _same_view(depth_camera, camera)):
            return depth_problem(depth, camera, size) or DepthView(depth, camera)
        if depth_camera is None:
            return f"no camera_info of the depth camera has arrived on {self.topics.depth_info}"
        # Between two cameras on one robot; what the depth camera saw was where it was at its own stamp.
        matrix = self._transforms.lookup(
            header.frame_id, depth_frame, nanoseconds(message.header), settings.position_wait
        )
        height, width = size
        return DepthView(register(depth, depth_camera, camera.scaled(width, height), matrix), camera)

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
        names = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "stereo_msgs/msg/DisparityImage")
        return [kind for kind in (optional_type(name) for name in names if name in published) if kind]

    def _subscribe(self, kind: type, topic: str, take: Callable[[Any], None]) -> Subscription:
        return self._node.create_subscription(
            kind,
            topic,
            take,
            copy(SENSOR),  # rclpy writes the overrides into the profile that it is given
            event_callbacks=subscriber_events(self._node, topic),
            qos_overriding_options=OVERRIDABLE,
        )


def _same_view(one: Intrinsics, other: Intrinsics) -> bool:
    """Tell whether two cameras in one place see the same, at whatever resolutions."""
    if one.problem or other.problem:
        return True  # whatever is wrong is said where the camera is used
    one = one.scaled(other.width, other.height)
    return (
        abs(one.fx / other.fx - 1) <= SAME_CAMERA
        and abs(one.fy / other.fy - 1) <= SAME_CAMERA
        and max(abs(one.cx - other.cx), abs(one.cy - other.cy)) <= SAME_CENTER * other.width
    )
