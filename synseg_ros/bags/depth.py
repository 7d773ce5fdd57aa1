"""The depth, camera_info and transforms of a recording, as the node has them from topics."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rosbags.interfaces import Connection

from synseg_ros.bags.message_types import COMPRESSED, IMAGE, MessageTypes
from synseg_ros.bags.salvage import Message
from synseg_ros.space.depth_view import DepthMessages, DepthTopics, DepthView
from synseg_ros.space.object_finder import ObjectFinder
from synseg_ros.space.stamped_messages import nanoseconds
from synseg_ros.space.transform_buffer import TransformBuffer, TransformError

logger = logging.getLogger(__name__)

CAMERA_INFO, TRANSFORMS = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
DEPTH = (IMAGE, COMPRESSED, "stereo_msgs/msg/DisparityImage")
TF, TF_STATIC = "/tf", "/tf_static"
AHEAD = 500_000_000  # nanoseconds by which depth and transforms may be recorded after their frame


@dataclass(frozen=True)
class RecordedObjectSettings:
    """What `synseg bag` can choose.

    Attributes:
        target_frame: The frame that positions are in; "" for the camera's own.
        tolerance: Seconds that may lie between the stamps of a frame and of its depth image.
        points_background: Whether the background has points, too.
    """

    target_frame: str = ""
    tolerance: float = 0.03
    points_background: bool = False


class RecordedDepth:
    """Take what a recording says of depth, and find the objects of its cameras.

    Args:
        topics: The topics by the camera's name; cameras without depth are not in it.
        types: The message types.
        settings: What was chosen.
    """

    def __init__(
        self, topics: Mapping[str, DepthTopics], types: MessageTypes, settings: RecordedObjectSettings
    ) -> None:
        self._types, self._settings = types, settings
        self._transforms = TransformBuffer()
        self._cameras = {camera: DepthMessages(names) for camera, names in topics.items()}
        self._unread: set[str] = set()

    @property
    def topics(self) -> set[str]:
        """The topics to read."""
        topics = [depth.topics for depth in self._cameras.values()]
        named = {name for one in topics for name in (one.depth, one.info, one.depth_info)}
        return named | ({TF, TF_STATIC} if named else set())

    def finder(self, camera: str) -> ObjectFinder:
        """Make what finds the objects of a camera.

        Args:
            camera: Name of the camera.
        """
        messages = self._cameras.get(camera)
        surroundings = RecordedSurroundings(messages, self._transforms, self._settings.tolerance) if messages else None
        return ObjectFinder(lambda: self._settings, surroundings)

    def ahead_of(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield messages, after taking what the recording has up to AHEAD later.

        Args:
            messages: Messages of the recording, with those of `topics`.
        """
        waiting: deque[Message] = deque()
        for message in messages:
            connection, timestamp, data = message
            if connection.topic in self.topics:
                self._take(connection, data)
            waiting.append((connection, timestamp, bytes(data)))
            while waiting[0][1] + AHEAD <= timestamp:
                yield waiting.popleft()
        yield from waiting

    def _take(self, connection: Connection, data: bytes) -> None:
        topic, kind = connection.topic, connection.msgtype
        try:
            if kind == TRANSFORMS and topic in (TF, TF_STATIC):
                self._take_transforms(self._types.decode(data, kind), topic == TF_STATIC)
            for depth in self._cameras.values():
                if topic == depth.topics.depth and kind in DEPTH:
                    depth.images.add(self._types.decode(data, kind))
                elif topic == depth.topics.info and kind == CAMERA_INFO:
                    depth.infos.add(self._types.decode(data, kind))
                elif topic == depth.topics.depth_info and kind == CAMERA_INFO:
                    depth.depth_infos.add(self._types.decode(data, kind))
        except ValueError as error:
            if topic not in self._unread:
                self._unread.add(topic)
                logger.warning("a message of %s is skipped: %s", topic, error)

    def _take_transforms(self, message: Any, static: bool) -> None:
        for one in message.transforms:
            r, t = one.transform.rotation, one.transform.translation
            place = (t.x, t.y, t.z), (r.x, r.y, r.z, r.w)
            self._transforms.add(one.header.frame_id, one.child_frame_id, nanoseconds(one.header), *place, static)


class RecordedSurroundings:
    """The depth of one camera's frames, and the transforms.

    Args:
        messages: What the recording says of the camera's depth.
        transforms: Its transforms.
        tolerance: Seconds that may lie between the stamps of a frame and of its depth image.
    """

    def __init__(self, messages: DepthMessages, transforms: TransformBuffer, tolerance: float) -> None:
        self._messages, self._transforms, self._tolerance = messages, transforms, tolerance

    def view(self, header: Any, size: tuple[int, int]) -> DepthView | str:
        """Find the depth of a frame, or why there is none.

        Args:
            header: Header of the frame.
            size: (H, W) of the frame in pixels.
        """
        return self._messages.view(header, size, self._tolerance, self.lookup)

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """Find the (4, 4) transform from one frame to another.

        Args:
            target: The frame to transform to.
            source: The frame to transform from.
            stamp: The time in nanoseconds.

        Raises:
            TransformError: It is not known; the text says why.
        """
        try:
            return self._transforms.lookup(target, source, stamp)
        except TransformError as error:
            raise TransformError(f"transform not available: {error}") from None
