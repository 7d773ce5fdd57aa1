"""One mask topic per label of the vocabulary, for consumers that want a single class as an image."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image

from synseg_ros.node.frames import SegmentedFrame
from synseg_ros.node.publishers import create_output, has_subscriber
from synseg_ros.qos import OUTPUT
from synseg_ros.ros_messages import MAKER

MOST_CLASS_TOPICS = 64


class ClassTopics:
    """Publish each label's mask as a mono8 image (0 and 255) on a topic of its own, classes/<label>.

    `offer`, `publish` and `destroy` are called on the worker's thread, `wanted` on the executor's.

    Args:
        node: The node that publishes.
        base: What all topics of the camera begin with.
    """

    def __init__(self, node: Node, base: str) -> None:
        self._node, self._base = node, base
        self._publishers: dict[str, Publisher] = {}  # by label

    def wanted(self) -> bool:
        """Return True while one of the topics has a subscriber."""
        return any(map(has_subscriber, self._publishers.copy().values()))

    def offer(self, labels: Iterable[str]) -> None:
        """Have a topic for each of these labels, and for no others.

        Args:
            labels: Distinct labels. Those that had a topic before keep their publisher.
        """
        names = class_topics(labels)
        kept = {label: self._publishers[label] for label in names if self._has_topic(label, names[label])}
        for label, publisher in self._publishers.items():
            if label not in kept:
                self._node.destroy_publisher(publisher)
        made = {
            label: create_output(self._node, Image, f"{self._base}/classes/{name}", OUTPUT, overridable=False)
            for label, name in names.items()
            if label not in kept
        }
        self._publishers = kept | made  # as a whole: the executor's thread reads it

    def publish(self, segmented: SegmentedFrame) -> None:
        """Publish the masks that have a subscriber.

        Args:
            segmented: The frame.
        """
        result = segmented.result
        for label, publisher in self._publishers.items():
            if has_subscriber(publisher) and label in result.labels:
                mask = result.mask(result.labels.index(label)).view(np.uint8) * np.uint8(255)
                publisher.publish(MAKER.image(mask, "mono8", segmented.header))

    def destroy(self) -> None:
        """End all topics."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def _has_topic(self, label: str, name: str) -> bool:
        return label in self._publishers and self._publishers[label].topic_name.endswith(f"/{name}")


def class_topics(labels: Iterable[str]) -> dict[str, str]:
    """Name a topic after each label: small Latin letters, digits and _.

    A label without any of them, the N-th, gets label_N. Where two labels would have the same name, the later one gets
    _2, _3 and so on.

    Args:
        labels: Distinct labels.

    Returns:
        The names by label, in the order of the labels.
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
