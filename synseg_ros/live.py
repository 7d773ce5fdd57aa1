"""What `synseg live --ros` shows: a camera of a running node, with the masks that the node publishes."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image

from synseg_model.live.feed import FeedListener, Found, LiveFrame, LiveLabels
from synseg_ros.interfaces.camera_names import camera_names
from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.image_encodings import FrameError, image_to_array, image_to_rgb, to_rgb
from synseg_ros.msg import ClassMasks, Vocabulary, VocabularyStatus
from synseg_ros.node.vocabulary_clients import TOPIC
from synseg_ros.qos import LATCHED, NEWEST_FRAME, OUTPUT

__all__ = ["NodeFeed", "open_feed"]

LOOK_SECONDS = 0.5  # between two looks at what is published
WAITING = 30  # frames whose parts have not all come
OLDEST_SECONDS = 60.0  # a stamp that is older is of another clock
JOIN_SECONDS = 5.0
DEFAULT_THRESHOLD = 0.5  # until a status of the node shows another

_MASKS = re.compile(r"(?P<namespace>.*)/synseg/(?P<camera>\w+)/masks")
_KINDS = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
_READERS = {Image: image_to_rgb, CompressedImage: compressed_to_rgb}


def open_feed(camera: str = "") -> NodeFeed:
    """Open the feed of a running node; `synseg live --ros` calls this.

    Args:
        camera: Name of the camera, as in synseg/<camera>/masks, or NAME=TOPIC where its images cannot be found by
            themselves; "" for the first camera.

    Raises:
        ValueError: The name cannot be one.
    """
    name, _, topic = camera.partition("=")
    if camera and not re.fullmatch(r"\w+", name, re.ASCII):
        raise ValueError(f"camera {camera!r}: expected a name such as front, or NAME=TOPIC")
    return NodeFeed(name, topic)


@dataclass
class _Parts:
    """What has come of one frame."""

    image: Image | CompressedImage | None = None
    masks: ClassMasks | None = None
    label_map: Image | None = None
    came: float = field(default_factory=time.monotonic)

    def complete(self) -> bool:
        return None not in (self.image, self.masks, self.label_map)


class NodeFeed:
    """Show a camera of a running node, and ask that node for labels.

    All work is done in one thread, which spins a ROS node of its own. While the feed rests it has no subscription, so
    that the node computes nothing for it.

    Args:
        camera: Name of the camera; "" for the first one.
        topic: Topic of its images; "" to find it.

    Attributes:
        name: For users: the camera.
        model: For users: the node.
    """

    def __init__(self, camera: str = "", topic: str = "") -> None:
        self.name = f"camera {camera}" if camera else "the first camera"
        self.model = "a node's model"
        self._camera, self._topic = camera, topic
        self._listener: FeedListener | None = None
        self._resting = True
        self._subscriptions: list = []
        self._parts: OrderedDict[tuple[int, int], _Parts] = OrderedDict()
        self._version = 0
        self._labels = LiveLabels()
        self._default = DEFAULT_THRESHOLD
        self._asked_for_default = False

    def start(self, listener: FeedListener) -> None:
        """Join ROS and look for the node.

        Args:
            listener: What is told of frames, labels and trouble.
        """
        self._listener = listener
        self._context = rclpy.Context()
        # Whoever runs this handles signals.
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(f"synseg_live_{secrets.token_hex(4)}", context=self._context)
        self._publisher = self._node.create_publisher(Vocabulary, "synseg/vocab", LATCHED)
        self._node.create_subscription(VocabularyStatus, "synseg/active_vocab", self._take_status, LATCHED)
        self._node.create_timer(LOOK_SECONDS, self._look)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="synseg-live-ros", daemon=True)
        self._thread.start()

    def ask(self, labels: list[str], thresholds: list[float | None]) -> None:
        """Publish labels for the node. The answer is its next status.

        Args:
            labels: Any texts.
            thresholds: One per label, 0 to 1; None for the node's own.
        """
        strange = next((label for label in labels if "\0" in label), None)
        if strange is not None:
            self._listener.on_refusal(f"label {strange!r} has a NUL, which no ROS message carries: leave it out")
            return
        own = all(threshold is None for threshold in thresholds)
        self._asked_for_default = own
        values = [] if own else [self._default if value is None else value for value in thresholds]
        try:
            message = Vocabulary(labels=labels, thresholds=values)
            self._publisher.publish(message)
        except Exception as error:  # text that is not valid Unicode
            self._listener.on_refusal(f"the labels cannot be sent: {error}")

    def rest(self, resting: bool) -> None:
        """End the subscriptions while resting.

        Args:
            resting: Whether to rest.
        """
        self._resting = resting  # the timer sees to it

    def close(self) -> None:
        """Leave ROS."""
        self._context.try_shutdown()
        self._thread.join(JOIN_SECONDS)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        finally:
            self._executor.shutdown()
            self._node.destroy_node()

    # Looking for the camera

    def _look(self) -> None:
        """Subscribe to the camera once it is there, and end that while resting."""
        if self._resting:
            self._disconnect()
        elif not self._subscriptions:
            try:
                self._connect()
            except LookupError as error:
                self._listener.on_trouble("source", error.args[0])
            else:
                self._listener.on_trouble("source", "")

    def _disconnect(self) -> None:
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())
        self._parts.clear()

    def _connect(self) -> None:
        cameras = self._cameras()
        if not cameras:
            raise LookupError("no node that segments is found yet: start one on this machine, in the same ROS domain")
        camera = self._camera or min(cameras)
        if camera not in cameras:
            raise LookupError(f"camera {camera!r} is not found yet; there is {', '.join(sorted(cameras))}")
        topic, kind = self._image_topic(cameras[camera], camera)
        masks = f"synseg/{camera}"
        for message_type, name, part, qos in (
            (kind, topic, "image", NEWEST_FRAME),
            (ClassMasks, f"{masks}/masks", "masks", OUTPUT),
            (Image, f"{masks}/label_map", "label_map", OUTPUT),
        ):
            take = partial(self._take, part)
            self._subscriptions.append(self._node.create_subscription(message_type, name, take, qos))
        namespace, node = cameras[camera]
        self.name, self.model = f"camera {camera} ({topic})", f"node {namespace.rstrip('/')}/{node}"
        self._listener.on_labels(self._labels)  # and with them the new name

    def _cameras(self) -> dict[str, tuple[str, str]]:
        """Return namespace and name of the node that publishes each camera's masks, by the camera's name."""
        own = self._node.get_namespace().rstrip("/")
        found = {}
        for topic, types in self._node.get_topic_names_and_types():
            match = _MASKS.fullmatch(topic)
            if match and match["namespace"] == own and "synseg_ros/msg/ClassMasks" in types:
                for end in self._node.get_publishers_info_by_topic(topic):
                    found[match["camera"]] = end.node_namespace, end.node_name
        return found

    def _image_topic(self, node: tuple[str, str], camera: str) -> tuple[str, type]:
        """Find the topic of a camera's images among those that its node subscribes to."""
        # Not by the node's name: ROS may still know a dead node of the same name, and would list that one's topics.
        heard = {
            topic: _KINDS[end.topic_type]
            for topic, types in self._node.get_topic_names_and_types()
            if _KINDS.keys() & set(types) and ("depth" not in topic or topic == self._topic)
            for end in self._node.get_subscriptions_info_by_topic(topic)
            if (end.node_namespace, end.node_name) == node and end.topic_type in _KINDS
        }
        topics = sorted(heard)
        if self._topic:
            named = {camera: self._topic}
        elif len(topics) == 1:
            named = {camera: topics[0]}
        else:
            named = dict(zip(camera_names(topics), topics, strict=True))
        topic = named.get(camera)
        if topic is None:
            listed = ", ".join(topics) or "none: it is not active"
            raise LookupError(
                f"the images of camera {camera!r} are not found; the node's image topics are {listed}; "
                f"--ros {camera}=TOPIC names one"
            )
        if topic not in heard:
            raise LookupError(f"no node segments {topic}; the node's image topics are {', '.join(topics)}")
        return topic, heard[topic]

    # Taking messages

    def _take_status(self, status: VocabularyStatus) -> None:
        self._version = status.version
        if not status.accepted and status.message:
            self._listener.on_refusal(status.message)
            return
        thresholds = tuple(round(float(threshold), 6) for threshold in status.thresholds)
        if self._asked_for_default and thresholds:
            self._default = thresholds[0]
        own = tuple(TOPIC in wanted.split(", ") for wanted in status.wanted_by)
        self._labels = LiveLabels(tuple(status.labels), tuple(status.ids), thresholds, own)
        self._listener.on_labels(self._labels)

    def _take(self, part: str, message: Image | CompressedImage | ClassMasks) -> None:
        """Keep a message until the others of its frame have come."""
        if part == "image" and not self._version:  # nothing is segmented, so nothing else comes
            self._show(_Parts(image=message))
            return
        key = message.header.stamp.sec, message.header.stamp.nanosec
        parts = self._parts.setdefault(key, _Parts())
        setattr(parts, part, message)
        if parts.complete():
            while key in self._parts:  # the older ones will not be completed, or are of no interest
                self._parts.popitem(last=False)
            self._show(parts)
        while len(self._parts) > WAITING:
            self._parts.popitem(last=False)

    def _show(self, parts: _Parts) -> None:
        if self._resting:  # and the timer has not come to it yet
            return
        try:
            image = to_rgb(_READERS[type(parts.image)], parts.image)
            if parts.masks is None:
                frame = LiveFrame(image, captured=self._captured(parts))
            else:
                frame = self._frame(image, image_to_array(parts.label_map), parts)
        except FrameError as error:
            self._listener.on_trouble("frame", str(error))
            return
        self._listener.on_trouble("frame", "")
        self._listener.on_frame(frame)

    def _frame(self, image: np.ndarray, label_map: np.ndarray, parts: _Parts) -> LiveFrame:
        masks = parts.masks
        pixels = masks.height * masks.width
        found = {mask.id: Found(mask.score, mask.presence, mask.area / pixels) for mask in masks.masks}
        # The newest status says the rest, and only the list of labels shows it.
        count = len(masks.labels)
        labels = LiveLabels(tuple(masks.labels), tuple(masks.ids), (0.0,) * count, (False,) * count)
        return LiveFrame(image, labels, label_map, found, self._captured(parts))

    def _captured(self, parts: _Parts) -> float:
        """Return when a frame was captured, by its stamp where that is of this machine's clock."""
        stamp = parts.image.header.stamp
        age = time.time() - (stamp.sec + stamp.nanosec / 1e9)
        return time.monotonic() - age if 0 <= age < OLDEST_SECONDS else parts.came
