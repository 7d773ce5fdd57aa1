"""What the node publishes: a Result as messages, and the publishers of one camera."""

from __future__ import annotations

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from synseg_model.result import Result
from synseg_model.visualize import overlay, palette
from synseg_model.vocabulary import Vocabulary
from synseg_ros.conversions import image_from_array
from synseg_ros.msg import ClassMask, ClassMasks, FrameInfo, VocabularyStatus
from synseg_ros.qos import OUTPUT

MONO8_LABELS = 254  # more labels than this need a mono16 label map


def class_masks(result: Result, header: Header, version: int) -> ClassMasks:
    """Build the ClassMasks of one frame: an entry with a cropped mono8 mask per label that has a pixel."""
    height, width = result.shape
    message = ClassMasks(header=header, vocabulary_version=version, height=height, width=width)
    message.labels = list(result.labels)
    message.masks = [class_mask(result, index, header) for index in result.present]
    return message


def class_mask(result: Result, index: int, header: Header) -> ClassMask:
    """Build the ClassMask of the label at a 0-based index, which must have at least one pixel."""
    x, y, width, height = result.roi(index)
    mask = result.mask(index)[y : y + height, x : x + width]
    return ClassMask(
        id=index + 1,
        label=result.labels[index],
        score=result.score(index),
        area=result.area(index),
        roi=RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height),
        mask=image_from_array(mask.view(np.uint8) * np.uint8(255), "mono8", header),
    )


def label_map_image(result: Result, header: Header) -> Image:
    """Build the label map: mono8, or mono16 where the vocabulary has over 254 labels; 0 is background."""
    if len(result.labels) <= MONO8_LABELS:
        return image_from_array(result.label_map.astype(np.uint8), "mono8", header)
    return image_from_array(result.label_map, "mono16", header)


def confidence_image(result: Result, header: Header) -> Image:
    """Build the confidence as mono8: activation 0 to 1 is 0 to 255."""
    return image_from_array(cv2.convertScaleAbs(result.confidence, alpha=255), "mono8", header)


def frame_info(result: Result, header: Header, version: int, inference_ms: float) -> FrameInfo:
    """Build the message that tells which vocabulary the images with the same header were made with."""
    return FrameInfo(
        header=header,
        vocabulary_version=version,
        labels=list(result.labels),
        inference_ms=float(inference_ms),
    )


def vocabulary_status(vocabulary: Vocabulary | None, version: int, stamp: Time, refusal: str = "") -> VocabularyStatus:
    """Build the status of the vocabulary in use (None at version 0) and of the last request."""
    message = VocabularyStatus(stamp=stamp, version=version, accepted=not refusal, message=refusal)
    if vocabulary is not None:
        message.labels = list(vocabulary.labels)
        message.thresholds = [float(value) for value in vocabulary.thresholds]
        message.colors = _colors(palette(len(vocabulary)))
    return message


def _colors(palette_rgb: np.ndarray) -> list[ColorRGBA]:
    return [ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=1.0) for r, g, b in palette_rgb.tolist()]


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
            self._info.publish(frame_info(result, header, version, inference_ms))
        if _heard(self._masks):
            self._masks.publish(class_masks(result, header, version))
        if _heard(self._label_map):
            self._label_map.publish(label_map_image(result, header))
        if _heard(self._confidence):
            self._confidence.publish(confidence_image(result, header))
        if _heard(self._overlay):
            self._overlay.publish(image_from_array(overlay(image, result), "rgb8", header))


def _heard(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
