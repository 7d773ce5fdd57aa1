"""From a camera's frame to the network's input size. Needs no torch."""

from __future__ import annotations

import cv2
import numpy as np

from synseg_model.config import ImageConfig


def resize_frame(frame: np.ndarray, image: ImageConfig, patch: int) -> np.ndarray:
    """Resize a frame (H,W,3) uint8 to the input size that `image` asks for; area-averaged where it shrinks."""
    height, width = image.input_size(*frame.shape[:2], patch)
    if frame.shape[:2] == (height, width):
        return frame
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
