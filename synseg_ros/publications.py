"""The publishers of one camera, and what they publish."""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from synseg_model.result import Result
from synseg_model.visualize import overlay
from synseg_ros.conversions import MAKER
from synseg_ros.msg import ClassMasks, FrameInfo
from synseg_ros.qos import OUTPUT


class CameraOutputs:
    """The topics of one camera; every one is made and published only while somebody subscribes to it."""

    def __init__(self, node: Node, camera: str) -> None:
        def publisher(kind: type, name: str) -> Publisher:
            return node.create_publisher(kind, f"synseg/{camera}/{name}", OUTPUT)

        self._info = publisher(FrameInfo, "info")
        self._masks = publisher(ClassMasks, "masks")
        self._label_map = publisher(Image, "label_map")
        self._confidence = publisher(Image, "confidence")
        self._overlay = publisher(Image, "overlay")
        self._all = (self._info, self._masks, self._label_map, self._confidence, self._overlay)

    def wanted(self) -> bool:
        """Return True while any of the topics has a subscriber."""
        return any(map(_heard, self._all))

    def publish(self, image: np.ndarray, result: Result, header: Header, version: int, inference_ms: float) -> None:
        """Publish one frame's result with the frame's own header; the info first, then masks and images."""
        if _heard(self._info):
            self._info.publish(MAKER.frame_info(result, header, version, inference_ms))
        if _heard(self._masks):
            self._masks.publish(MAKER.class_masks(result, header, version))
        if _heard(self._label_map):
            self._label_map.publish(MAKER.label_map(result, header))
        if _heard(self._confidence):
            self._confidence.publish(MAKER.confidence(result, header))
        if _heard(self._overlay):
            self._overlay.publish(MAKER.image(overlay(image, result), "rgb8", header))


def _heard(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
