"""The cameras of the node: what arrives from each, checked and passed on, and what is published for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from synseg_model.result import Result
from synseg_ros.interfaces.image_encodings import (
    FrameError,
    check_image,
    check_not_depth,
    compressed_to_rgb,
    image_to_rgb,
)
from synseg_ros.node.camera_outputs import CameraOutputs
from synseg_ros.node.diagnostics import MANY_LOST, CameraStatistics, RateLimit
from synseg_ros.node.pipeline import Frame, Timing
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.qos import NEWEST_FRAME, OVERRIDABLE, remedy_for_losses, subscriber_events

DECODERS = {Image: image_to_rgb, CompressedImage: compressed_to_rgb}
TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
LOSS_WARNING_SECONDS = 60.0  # from one warning to the next
# How old a frame may be at its publication, by its stamp; beyond these the stamp is of another clock than the node's.
EARLIEST_SECONDS, LATEST_SECONDS = -1.0, 60.0
COMPRESSED = "/compressed"  # where image_transport puts a topic's compressed frames


class Camera:
    """One camera: its subscription while it is listened to, its outputs and its statistics.

    offer: takes a frame for the worker and returns False when it replaced another. ready: tells whether there is a
    vocabulary. All is called on the executor's thread, except failed() and publish().
    """

    def __init__(
        self,
        node: Node,
        name: str,
        topic: str,
        settings: Callable[[], NodeSettings],
        offer: Callable[[str, Frame], bool],
        ready: Callable[[], bool],
    ) -> None:
        self.name = name
        self.topic = node.resolve_topic_name(topic)
        self.statistics = CameraStatistics()
        self.outputs = CameraOutputs(node, name, settings)
        self._node, self._settings, self._offer, self._ready = node, settings, offer, ready
        self._warnings, self._loss_warnings = RateLimit(), RateLimit(LOSS_WARNING_SECONDS)
        self._silent = self._clock_told = False
        self._subscription: Subscription | None = None
        self._due = 0.0  # when the next frame may be taken, under a rate limit

    def listen(self) -> None:
        """Subscribe to the camera."""
        self.statistics.listen()
        self._silent = False
        kind, topic = self._source()
        if topic != self.topic and self._settings().transport == "auto":
            self._node.get_logger().info(f"nobody publishes {self.topic}: subscribing to {topic}")
        self._subscribe(kind, topic)

    def follow(self) -> None:
        """Subscribe anew where the camera turned out to publish the other kind of message, or on the other topic."""
        kind, topic = self._source()
        before = self._subscription
        if before is not None and (before.msg_type is not kind or before.topic_name != topic):
            self._node.get_logger().info(f"subscribing to {topic}: it has {kind.__name__} messages")
            self.ignore()
            self._subscribe(kind, topic)

    @property
    def silent(self) -> bool:
        """Whether no frame has come for `stale_seconds`; False while none is expected."""
        return self.statistics.silence() > self._settings().stale_seconds

    def watch(self) -> None:
        """Log when the camera falls silent, when it is back, and while many of its frames are lost."""
        logger = self._node.get_logger()
        was_silent, self._silent = self._silent, self.silent
        if self._silent and not was_silent:
            logger.warning(f"no frame from {self.topic} for {self._settings().stale_seconds:g} s{self._absence()}")
        if was_silent and not self._silent:
            logger.info(f"frames from {self.topic} again")
        lost = self.statistics.share_lost
        if lost > MANY_LOST and self._loss_warnings.admit() is not None:
            logger.warning(
                f"{lost:.0%} of the frames of {self.topic} are lost on the way; {remedy_for_losses(self._source()[1])}"
            )

    def ignore(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def destroy(self) -> None:
        """End the subscription and all outputs."""
        self.ignore()
        self.outputs.destroy()

    def failed(self, kind: str, reason: str) -> None:
        """Count a frame that was "bad" or "failed", and say why, not too often."""
        self.statistics.error(kind, reason)
        held_back = self._warnings.admit()
        if held_back is not None:
            done = "skipped a frame of" if kind == "bad" else "could not segment a frame of"
            more = f" ({held_back} more warnings held back)" if held_back else ""
            self._node.get_logger().warning(f"{done} {self.topic}: {reason}{more}")

    def publish(self, frame: Frame, image: np.ndarray, result: Result, version: int, timing: Timing) -> None:
        """Publish a frame's result and count it; an error in it costs this frame only."""
        began, header = time.perf_counter(), frame.message.header
        try:
            self.outputs.publish(image, result, header, version, timing.inference)
        except Exception as error:
            if self._node.context.ok():
                self.failed("failed", f"{type(error).__name__}: {error}")
            return
        publishing = 1e3 * (time.perf_counter() - began)
        self.statistics.segmented(
            self._age_ms(header), timing.inference, wait_ms=timing.wait, decode_ms=timing.decode, publish_ms=publishing
        )

    def _source(self) -> tuple[type, str]:
        """Choose the type and the topic to subscribe to, from the transport and what is published at present."""
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
        """Return the kinds of frames that are published on a topic at present."""
        published = {end.topic_type for end in self._node.get_publishers_info_by_topic(topic)}
        return [kind for name, kind in TYPES.items() if name in published]

    def _absence(self) -> str:
        """Say what there is in the place of the topic's frames, where nobody publishes any."""
        ends = self._node.get_publishers_info_by_topic(self._source()[1])
        if not ends:
            both = self._settings().transport == "auto" and not self.topic.endswith(COMPRESSED)
            return ": nobody publishes it" + (f", nor {self.topic}{COMPRESSED}" if both else "")
        others = sorted({end.topic_type for end in ends} - TYPES.keys())
        return f": it has {', '.join(others)}, and expected is one of {', '.join(TYPES)}" if others else ""

    def _subscribe(self, kind: type, topic: str) -> None:
        self.statistics.restart_numbering()
        self._subscription = self._node.create_subscription(
            kind,
            topic,
            partial(self._take, DECODERS[kind]),
            copy(NEWEST_FRAME),  # rclpy writes the overrides into the profile that it is given
            event_callbacks=subscriber_events(self._node, topic),
            qos_overriding_options=OVERRIDABLE,
        )

    def _take(
        self, decode: Callable[[Any], np.ndarray], message: Image | CompressedImage, info: Mapping[str, Any]
    ) -> None:
        self.statistics.received(info)
        try:
            check_not_depth(message)
            if decode is image_to_rgb:  # compressed ones tell by decoding, which is the worker's
                check_image(message)
            self._pass_on(Frame(message, decode, time.monotonic()))
        except FrameError as error:
            self.failed("bad", str(error))
        except Exception as error:  # whatever it is, the frame is counted and its camera named
            self.failed("failed", f"{type(error).__name__}: {error}")

    def _pass_on(self, frame: Frame) -> None:
        """Offer a frame to the worker if it is wanted, and count it if not."""
        if not (self._ready() and self.outputs.wanted()):
            self.statistics.count("idle")
            return
        if self._settings().max_rate:
            period = 1 / self._settings().max_rate
            if frame.arrived < self._due - period / 10:  # a camera does not come on the dot
                self.statistics.count("skipped")
                return
            self._due = max(self._due, frame.arrived) + period
        if not self._offer(self.name, frame):
            self.statistics.count("dropped")

    def _age_ms(self, header: Any) -> float:
        """Return the milliseconds since a frame's stamp, nan where it is of another clock: then no latency is known.

        Such are stamps that are not set, negative, counted from a boot, or wrong by an hour.
        """
        stamp = header.stamp.sec + header.stamp.nanosec / 1e9  # rclpy's Time refuses negative ones
        age = self._node.get_clock().now().nanoseconds / 1e9 - stamp
        if stamp and EARLIEST_SECONDS <= age <= LATEST_SECONDS:
            return 1e3 * age
        if not self._clock_told:
            self._clock_told = True
            wrong = f"are {abs(age):.0f} s {'old' if age > 0 else 'ahead'}" if stamp else "are not set"
            self._node.get_logger().warning(
                f"the stamps of {self.topic} {wrong} (the first such: {stamp:.3f} s): they are of another clock, and "
                "the latency is not known. Masks keep the frame's own stamp"
            )
        return float("nan")
