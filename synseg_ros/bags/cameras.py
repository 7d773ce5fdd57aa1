"""The cameras of a recording: which topics are cameras, their names, and how their frames are read."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synseg_ros.bags.message_types import COMPRESSED, IMAGE, MessageTypes
from synseg_ros.bags.reading import Recording
from synseg_ros.interfaces.camera_names import camera_names
from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.image_encodings import depth_in, image_to_rgb, to_rgb

logger = logging.getLogger(__name__)

OUR_TOPICS = "/synseg/"
_DECODERS = {IMAGE: image_to_rgb, COMPRESSED: compressed_to_rgb}
_NAME = re.compile(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


@dataclass
class RecordedCamera:
    """A topic with images, and what became of its frames so far.

    Attributes:
        topic: Topic of the frames.
        name: Name of the camera, as in /synseg/<name>/...
        kind: Type of its messages, IMAGE or COMPRESSED.
        frames: Number of its frames in the recording.
        seen: Number of frames read so far.
        segmented: Number of frames segmented so far.
        failed: Number of frames that could not be read so far.
    """

    topic: str
    name: str
    kind: str
    frames: int
    seen: int = 0
    segmented: int = 0
    failed: int = 0

    def read(self, data: bytes, types: MessageTypes) -> tuple[Any, np.ndarray]:
        """Read a frame.

        Args:
            data: The message's bytes (CDR).
            types: The message types.

        Returns:
            The frame's header, and its image (H, W, 3) uint8 RGB.

        Raises:
            ValueError: The frame cannot be read.
        """
        message = types.decode(data, self.kind)
        return message.header, to_rgb(_DECODERS[self.kind], message)


def choose_cameras(recording: Recording, wanted: Sequence[str] | None, types: MessageTypes) -> list[RecordedCamera]:
    """Choose the topics to segment.

    By default these are all topics with images, but for three kinds: the node's own outputs, depth, and the topic with
    fewer frames where the same image was recorded raw and compressed. The log names the last two. Cameras are named as
    the node names them, see `camera_names`.

    Args:
        recording: The recording.
        wanted: "TOPIC" or "NAME=TOPIC" each; None for all.
        types: The message types.

    Returns:
        The cameras, with distinct names.

    Raises:
        ValueError: A topic has no images, or a name is taken or not valid.
    """
    found: dict[str, RecordedCamera] = {}
    for connection in recording.connections:
        if connection.msgtype in _DECODERS:
            topic = connection.topic
            camera = found.setdefault(topic, RecordedCamera(topic, "", connection.msgtype, 0))
            camera.frames += connection.msgcount if connection.msgtype == camera.kind else 0
    if wanted:
        given = dict(_split(text) for text in wanted)
        missing = [topic for topic in given if topic not in found]
        if missing:
            raise ValueError(f"{recording.path} has no images on {', '.join(missing)}; {_listed(found)}")
        cameras = [found[topic] for topic in given]
    else:
        given = {}
        cameras = _once(_without_depth(found, recording, types))
    if not any(camera.frames for camera in cameras):
        raise ValueError(f"{recording.path} has no frames to segment; {_listed(found)}")
    _name(cameras, given)
    return cameras


def _without_depth(
    found: dict[str, RecordedCamera], recording: Recording, types: MessageTypes
) -> dict[str, RecordedCamera]:
    """Leave out what has no frames, a node's own outputs, and topics whose first frame is depth."""
    kept = {}
    for topic, camera in found.items():
        if not camera.frames or topic.startswith(OUR_TOPICS):
            continue
        data, depth = recording.first(topic, camera.kind), ""
        if data is not None:
            with contextlib.suppress(ValueError):  # damaged, which is told when the frames are read
                depth = depth_in(types.decode(data, camera.kind))
        if depth:
            logger.warning("%s is left out: %s is depth. Name it with --topics to segment it", topic, depth)
        else:
            kept[topic] = camera
    return kept


def _once(found: dict[str, RecordedCamera]) -> list[RecordedCamera]:
    """Keep one topic of an image that was recorded raw and compressed: the one with more frames, ties go to raw."""
    left_out = set()
    for topic, camera in found.items():
        raw = found.get(topic.rpartition("/")[0])
        if camera.kind == COMPRESSED and raw is not None and raw.kind == IMAGE and raw.topic not in left_out:
            fewer, more = (camera, raw) if raw.frames >= camera.frames else (raw, camera)
            left_out.add(fewer.topic)
            logger.warning("%s is left out, it has the images of %s", fewer.topic, more.topic)
    return [camera for topic, camera in found.items() if topic not in left_out]


def _split(text: str) -> tuple[str, str]:
    name, equals, topic = text.rpartition("=")
    if equals and not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name for a camera: expected letters, digits and _, no digit first")
    return topic, name


def _name(cameras: list[RecordedCamera], given: dict[str, str]) -> None:
    for camera, name in zip(cameras, camera_names([camera.topic for camera in cameras], given), strict=True):
        camera.name = name
    for name, count in Counter(camera.name for camera in cameras).items():
        if count > 1:
            raise ValueError(f"{count} cameras would be called {name!r}: give them names, --topics NAME=TOPIC ...")


def _listed(found: dict[str, RecordedCamera]) -> str:
    if not found:
        return "no topic in it is a sensor_msgs/Image or CompressedImage"
    return "its images are on " + ", ".join(f"{camera.topic} ({camera.frames})" for camera in found.values())
