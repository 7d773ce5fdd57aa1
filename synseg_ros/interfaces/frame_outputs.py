"""The outputs of a segmented frame: one table for the node's topics and for recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synseg_model.io.drawing import overlay
from synseg_model.result import Result
from synseg_ros.interfaces.message_maker import MessageMaker
from synseg_ros.interfaces.serialized_masks import serialize_class_masks


class Segmented:
    """What the outputs are made of.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        result: What was found in the image.
        header: Header of the frame, of the message library's own class.
        version: Version of the vocabulary.
        inference_ms: Milliseconds that the engine took.
    """

    image: np.ndarray
    result: Result
    header: Any
    version: int
    inference_ms: float

    @cached_property
    def drawn(self) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB with colours and names drawn over it; outputs share it."""
        return overlay(self.image, self.result)


@dataclass(frozen=True, eq=False)
class SegmentedImage(Segmented):
    """A `Segmented` without anything else."""

    image: np.ndarray
    result: Result
    header: Any
    version: int
    inference_ms: float


@dataclass(frozen=True)
class FrameOutput:
    """A message about every segmented frame.

    Attributes:
        name: What follows in the topic synseg/<camera>/<name>.
        type: Type of the message, one of `message_maker.MESSAGES`.
        make: Makes the message; called only where it is wanted.
        serialize: Writes the message with mono8 masks as CDR, faster than it can be made and serialised; None where
            that is not worth it.
    """

    name: str
    type: str
    make: Callable[[MessageMaker, Segmented], Any]
    serialize: Callable[[Segmented], bytes] | None = None


# In the order in which they are published: the info first, as it says what the others mean.
FRAME_OUTPUTS = (
    FrameOutput(
        "info",
        "synseg_ros/msg/FrameInfo",
        lambda maker, frame: maker.frame_info(frame.result, frame.header, frame.version, frame.inference_ms),
    ),
    FrameOutput(
        "masks",
        "synseg_ros/msg/ClassMasks",
        lambda maker, frame: maker.class_masks(frame.result, frame.header, frame.version),
        lambda frame: serialize_class_masks(frame.result, frame.header, frame.version),
    ),
    FrameOutput("label_map", "sensor_msgs/msg/Image", lambda maker, frame: maker.label_map(frame.result, frame.header)),
    FrameOutput(
        "confidence", "sensor_msgs/msg/Image", lambda maker, frame: maker.confidence(frame.result, frame.header)
    ),
    FrameOutput("overlay", "sensor_msgs/msg/Image", lambda maker, frame: maker.overlay(frame.drawn, frame.header)),
    FrameOutput(
        "overlay/compressed",  # where image_transport, and so RViz and rqt, look for it
        "sensor_msgs/msg/CompressedImage",
        lambda maker, frame: maker.compressed_overlay(frame.drawn, frame.header),
    ),
)
