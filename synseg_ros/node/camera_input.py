"""What arrives from one camera: the subscription, of the type that it publishes, and the checks of its frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from synseg_ros.interfaces.image_encodings import FrameError
from synseg_ros.node.camera_log import CameraLog
from synseg_ros.node.camera_statistics import MANY_LOST
from synseg_ros.node.frames import Frame, FrameMessage
from synseg_ros.node.rate_limit import RateLimit
from synseg_ros.node.serialized_images import read_image
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.qos import NEWEST_FRAME, OVERRIDABLE, remedy_for_losses, subscriber_events
from synseg_ros.ros_messages import cdr_is_used

TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
LOSS_WARNING_SECONDS = 60.0  # from one warning to the next
COMPRESSED = "/compressed"  # where image_transport puts a topic's compressed frames


class CameraInput:
    """Subscribe to one camera while the node is active, and hand on the frames that are wanted.

    All methods are called on the executor's thread.

    Args:
        node: The node that subscribes.
        name: Name of the camera.
        topic: Its topic, resolved.
        settings: Returns the settings in force.
        log: Counts the frames.
        wanted: Tells whether a frame would be segmented and published now.
        asked_for: Tells whether a request waits for a frame, which then comes before the rate limit.
        offer: Takes a frame for the engine; returns False when it replaced one that still waited.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        topic: str,
        settings: Callable[[], NodeSettings],
        log: CameraLog,
        wanted: Callable[[], bool],
        asked_for: Callable[[Frame], bool],
        offer: Callable[[Frame], bool],
    ) -> None:
        self.name, self.topic = name, topic
        self._node, self._settings, self._log = node, settings, log
        self._wanted, self._asked_for, self._offer = wanted, asked_for, offer
        self._loss_warnings = RateLimit(LOSS_WARNING_SECONDS)
        self._silent = False
        self._subscription: Subscription | None = None
        self._due = 0.0  # when the next frame may be taken, under a rate limit

    def listen(self) -> None:
        """Subscribe to the camera."""
        self._log.statistics.listen()
        self._silent = False
        kind, topic = self._source()
        if topic != self.topic and self._settings().transport == "auto":
            self._node.get_logger().info(f"{self.topic} has no publisher: subscribing to {topic}")
        self._subscribe(kind, topic)

    def follow(self) -> None:
        """Subscribe anew if the camera turns out to publish the other type of message, or on the other topic."""
        kind, topic = self._source()
        before = self._subscription
        if before is not None and (before.msg_type is not kind or before.topic_name != topic):
            self._node.get_logger().info(f"subscribing to {topic}, of type {kind.__name__}")
            self.ignore()
            self._subscribe(kind, topic)

    def ignore(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    @property
    def silent(self) -> bool:
        """Whether no frame has come for `stale_seconds`; False while none is expected."""
        return self._log.statistics.silence() > self._settings().stale_seconds

    def watch(self) -> None:
        """Log when the camera falls silent, when it is back, and while many of its frames are lost."""
        logger = self._node.get_logger()
        was_silent, self._silent = self._silent, self.silent
        if self._silent and not was_silent:
            logger.warning(f"no frame from {self.topic} for {self._settings().stale_seconds:g} s{self._absence()}")
        if was_silent and not self._silent:
            logger.info(f"frames from {self.topic} again")
        lost = self._log.statistics.share_lost
        if lost > MANY_LOST and self._loss_warnings.admit() is not None:
            logger.warning(
                f"{lost:.0%} of the frames of {self.topic} are lost on the way; {remedy_for_losses(self._source()[1])}"
            )

    def _take(self, message: FrameMessage | bytes, info: Mapping[str, Any]) -> None:
        """Count a message and, if it is a readable frame that is wanted, offer it to the engine."""
        self._log.statistics.received(info)
        try:
            read = read_image(message) if isinstance(message, bytes) else message
            frame = Frame(self.name, read, time.monotonic())
            frame.check()
            asked_for = self._asked_for(frame)
            if not (asked_for or self._wanted()):
                self._log.statistics.count("idle")
            elif not (self._is_due(frame) or asked_for):
                self._log.statistics.count("skipped")
            elif not self._offer(frame):
                self._log.statistics.count("dropped")
        except FrameError as error:
            self._log.bad(str(error))
        except Exception as error:  # whatever it is, the frame is counted and its camera named
            self._log.failed(error)

    def _is_due(self, frame: Frame) -> bool:
        """Tell whether the rate limit lets a frame through, and if so when the next one may come."""
        if self._settings().max_rate:
            period = 1 / self._settings().max_rate
            if frame.received < self._due - period / 10:  # a camera does not come on the dot
                return False
            self._due = max(self._due, frame.received) + period
        return True

    def _subscribe(self, kind: type, topic: str) -> None:
        self._log.statistics.restart_numbering()
        self._subscription = self._node.create_subscription(
            kind,
            topic,
            self._take,
            copy(NEWEST_FRAME),  # rclpy writes the overrides into the profile that it is given
            event_callbacks=subscriber_events(self._node, topic),
            qos_overriding_options=OVERRIDABLE,
            raw=kind is Image and cdr_is_used(),
        )

    def _source(self) -> tuple[type, str]:
        """Choose the type and the topic to subscribe to, by the transport and the publishers at present."""
        transport = self._settings().transport
        if transport == "raw":
            return Image, self.topic
        if transport == "compressed":
            return CompressedImage, self.topic.removesuffix(COMPRESSED) + COMPRESSED
        found = self._published(self.topic)
        if not found and CompressedImage in self._published(self.topic + COMPRESSED):
            return CompressedImage, self.topic + COMPRESSED
        guess = CompressedImage if self.topic.endswith(COMPRESSED) else Image
        return (found or [guess])[0], self.topic

    def _published(self, topic: str) -> list[type]:
        """Return the types of frames that are published on a topic at present."""
        published = {end.topic_type for end in self._node.get_publishers_info_by_topic(topic)}
        return [kind for name, kind in TYPES.items() if name in published]

    def _absence(self) -> str:
        """Say why no frames come, where the topic has no publisher of frames."""
        ends = self._node.get_publishers_info_by_topic(self._source()[1])
        if not ends:
            both = self._settings().transport == "auto" and not self.topic.endswith(COMPRESSED)
            return ": it has no publisher" + (f", nor has {self.topic}{COMPRESSED}" if both else "")
        others = sorted({end.topic_type for end in ends} - TYPES.keys())
        return f": its type is {', '.join(others)}; accepted: {', '.join(TYPES)}" if others else ""
