"""What travels through the node: a camera's frame, and the same frame when it is segmented."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from synseg_model.result import Result
from synseg_ros.interfaces.compressed_images import compressed_to_rgb
from synseg_ros.interfaces.frame_outputs import Segmented
from synseg_ros.interfaces.image_encodings import (
    check_image_message,
    check_not_depth,
    image_to_rgb,
    to_rgb,
)
from synseg_ros.node.serialized_images import ReceivedImage

FrameMessage = Image | ReceivedImage | CompressedImage


@dataclass(frozen=True)
class Frame:
    """A camera's message on its way to the engine.

    Attributes:
        camera: Name of the camera, as in synseg/<camera>/...
        message: The message as it arrived.
        received: When it arrived, in seconds of `time.monotonic`.
    """

    camera: str
    message: FrameMessage
    received: float

    @property
    def header(self) -> Header:
        """The header that the camera gave the frame."""
        return self.message.header

    def age(self) -> float:
        """Return the seconds since the frame arrived."""
        return time.monotonic() - self.received

    def check(self) -> None:
        """Check all that shows without reading a pixel.

        Raises:
            FrameError: The frame is depth, or its fields do not fit together.
        """
        check_not_depth(self.message)
        if not isinstance(self.message, CompressedImage):  # which shows what it is when it is decoded
            check_image_message(self.message)

    def to_rgb(self) -> np.ndarray:
        """Read the image: (H, W, 3) uint8 RGB, for rgb8 a view of the message's own data.

        Raises:
            FrameError: The image cannot be read.
        """
        compressed = isinstance(self.message, CompressedImage)
        return to_rgb(compressed_to_rgb if compressed else image_to_rgb, self.message)


@dataclass(frozen=True)
class Timing:
    """Where the time of one frame went, in milliseconds.

    Attributes:
        wait: From the frame's arrival until its turn.
        decode: To read the image from the message.
        inference: To segment all frames that went through the engine together.
    """

    wait: float
    decode: float
    inference: float


@dataclass(frozen=True)
class SegmentedFrame(Segmented):
    """A frame with all that its camera's outputs need.

    Attributes:
        frame: The frame as it arrived.
        image: Its image (H, W, 3) uint8 RGB.
        result: What was found in the image.
        version: Version of the vocabulary that it was segmented with.
        timing: Where the time went.
    """

    frame: Frame
    image: np.ndarray
    result: Result
    version: int
    timing: Timing

    @property
    def header(self) -> Header:
        """The header that the camera gave the frame; every output carries it."""
        return self.frame.header

    @property
    def inference_ms(self) -> float:
        """Milliseconds in the engine."""
        return self.timing.inference
