"""The publishers of one camera, and what they publish."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from copy import copy

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary
from synseg_ros.conversions import MAKER
from synseg_ros.msg import ClassMasks, FrameInfo
from synseg_ros.parameters.tables import NodeSettings
from synseg_ros.qos import LATCHED, OUTPUT, OVERRIDABLE, publisher_events

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # it is a package of its own, and not everybody has it
    LabelInfo = None

OUTPUTS = {"info": FrameInfo, "masks": ClassMasks, "label_map": Image, "confidence": Image, "overlay": Image}
MOST_CLASS_TOPICS = 64


class CameraOutputs:
    """The topics of one camera; every one is made and published only while somebody subscribes to it.

    settings: gives the settings in force, which may switch topics off. announce() and publish() are called on the
    worker's thread; destroy() ends all topics.
    """

    def __init__(self, node: Node, camera: str, settings: Callable[[], NodeSettings]) -> None:
        self._node, self._base, self._settings = node, f"synseg/{camera}", settings
        self._publishers = {name: self._publisher(kind, name, OUTPUT) for name, kind in OUTPUTS.items()}
        self._label_info = self._publisher(LabelInfo, "label_info", LATCHED, False) if LabelInfo else None
        self._classes: dict[str, Publisher] = {}  # by label

    def wanted(self) -> bool:
        """Return True while any of the topics that are switched on has a subscriber."""
        return any(map(self._heard, OUTPUTS)) or any(map(_has_subscriber, self._classes.copy().values()))

    def announce(self, vocabulary: Vocabulary | None, stamp: object) -> None:
        """Say what ids mean, and offer a topic per label if that is asked for; before any mask with these labels."""
        if vocabulary is not None and self._label_info is not None:
            classes = [
                VisionClass(class_id=number, class_name=label)
                for number, label in zip(vocabulary.ids, vocabulary.labels, strict=True)
            ]
            threshold = float(vocabulary.thresholds.min())
            self._label_info.publish(LabelInfo(header=Header(stamp=stamp), class_map=classes, threshold=threshold))
        offered = vocabulary.labels if vocabulary is not None and self._settings().publish_class_topics else ()
        names = class_topics(offered[:MOST_CLASS_TOPICS])
        kept = {label: self._classes[label] for label in names if self._has_topic(label, names[label])}
        for label, publisher in self._classes.items():
            if label not in kept:
                self._node.destroy_publisher(publisher)
        made = {
            label: self._publisher(Image, f"classes/{name}", OUTPUT, False)
            for label, name in names.items()
            if label not in kept
        }
        self._classes = kept | made  # as a whole: the executor's thread reads it

    def publish(self, image: np.ndarray, result: Result, header: Header, version: int, inference_ms: float) -> None:
        """Publish one frame's result with the frame's own header; the info first, then masks and images."""
        for name, make in MAKER.outputs(image, result, header, version, inference_ms).items():
            if self._heard(name):
                self._publishers[name].publish(make())
        for label, publisher in self._classes.items():
            if _has_subscriber(publisher) and label in result.labels:
                mask = result.mask(result.labels.index(label)).view(np.uint8) * np.uint8(255)
                publisher.publish(MAKER.image(mask, "mono8", header))

    def destroy(self) -> None:
        """End all topics."""
        label_info = [self._label_info] if self._label_info else []
        for publisher in (*self._publishers.values(), *self._classes.values(), *label_info):
            self._node.destroy_publisher(publisher)

    def _heard(self, name: str) -> bool:
        switched_on = getattr(self._settings(), f"publish_{name}", True)  # the info cannot be switched off
        return switched_on and _has_subscriber(self._publishers[name])

    def _has_topic(self, label: str, name: str) -> bool:
        return label in self._classes and self._classes[label].topic_name.endswith(f"/{name}")

    def _publisher(self, kind: type, name: str, qos: QoSProfile, overridable: bool = True) -> Publisher:
        topic = f"{self._base}/{name}"
        return self._node.create_publisher(
            kind,
            topic,
            copy(qos),  # rclpy writes the overrides into the profile that it is given
            event_callbacks=publisher_events(self._node, self._node.resolve_topic_name(topic), overridable),
            qos_overriding_options=OVERRIDABLE if overridable else None,
        )


def class_topics(labels: Iterable[str]) -> dict[str, str]:
    """Name a topic after each label: small Latin letters, digits and _; label_N for what has none of them.

    Labels that would be called the same get _2, _3 ... behind the first.
    """
    names: dict[str, str] = {}
    for position, label in enumerate(labels, start=1):
        latin = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
        base = name = re.sub(r"[^a-z0-9]+", "_", latin).strip("_") or f"label_{position}"
        if base[0].isdigit():
            base = name = f"label_{base}"
        count = 1
        while name in names.values():
            count += 1
            name = f"{base}_{count}"
        names[label] = name
    return names


def _has_subscriber(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
