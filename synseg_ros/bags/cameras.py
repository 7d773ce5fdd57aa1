"""Which topics of a recording are cameras, how they are called, and how their frames are read."""

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
from synseg_ros.interfaces.image_encodings import compressed_to_rgb, depth_in, image_to_rgb, to_rgb

logger = logging.getLogger(__name__)

OUR_TOPICS = "/synseg/"
_DECODERS = {IMAGE: image_to_rgb, COMPRESSED: compressed_to_rgb}
_NAME = re.compile(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


@dataclass
class RecordedCamera:
    """A topic with images, the name of its outputs, and what became of its frames so far."""

    topic: str
    name: str
    kind: str
    frames: int
    seen: int = 0
    segmented: int = 0
    failed: int = 0

    def read(self, data: bytes, types: MessageTypes) -> tuple[Any, np.ndarray]:
        """Return a frame's header and its image (H, W, 3) uint8 RGB; raise ValueError that says what is wrong."""
        message = types.decode(data, self.kind)
        return message.header, to_rgb(_DECODERS[self.kind], message)


def choose_cameras(recording: Recording, wanted: Sequence[str] | None, types: MessageTypes) -> list[RecordedCamera]:
    """Choose the topics to segment: "TOPIC" or "NAME=TOPIC" each, or all that show a camera's images, each once.

    Not among all are a node's own outputs, depth, and of an image that was recorded raw and compressed the topic with
    fewer frames; the last two are named in the log. A camera is called as the node does it, after the first part of
    its topic; where two would be called the same, after the whole. Raise ValueError for a topic that has no images
    and for names that are taken or invalid.
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
    """Of an image that was recorded raw and compressed keep the topic with more frames, the raw one of equal ones."""
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
        raise ValueError(f"{name!r} is no name for a camera: expected letters, digits and _, not a digit first")
    return topic, name


def _name(cameras: list[RecordedCamera], given: dict[str, str]) -> None:
    for camera, name in zip(cameras, camera_names([camera.topic for camera in cameras], given), strict=True):
        camera.name = name
    for name, count in Counter(camera.name for camera in cameras).items():
        if count > 1:
            raise ValueError(f"{count} cameras would be called {name!r}: give names, --topics NAME=TOPIC ...")


def _listed(found: dict[str, RecordedCamera]) -> str:
    if not found:
        return "no topic in it is a sensor_msgs/Image or CompressedImage"
    return "its images are on " + ", ".join(f"{camera.topic} ({camera.frames})" for camera in found.values())
