"""A video on disk that appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from synseg_model.files import part_of

__all__ = ["VideoFile"]


class VideoFile:
    """Write an MPEG-4 video that appears under its name when it is finished.

    It is a context manager. It keeps what was written when the user interrupts, and nothing when writing fails.

    Args:
        path: the video.
        fps: frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._part = part_of(path, path.suffix)
        self._writer: cv2.VideoWriter | None = None
        self._frames = 0

    def write(self, image: np.ndarray) -> None:
        """Add a frame; the first one opens the video.

        Args:
            image: (H,W,3) uint8 RGB; all frames have one size.

        Raises:
            OSError: where no video can be written.
        """
        height, width = (max(2, side - side % 2) for side in image.shape[:2])  # MPEG-4 wants even sides
        if self._writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._part), code, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"cannot write {self._path}: OpenCV opens no MPEG-4 writer for {width}x{height} px")
        self._writer.write(cv2.cvtColor(image[:height, :width], cv2.COLOR_RGB2BGR))
        self._frames += 1

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        try:
            if kind is None or issubclass(kind, (KeyboardInterrupt, ValueError)):
                self._check()
                os.replace(self._part, self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def _check(self) -> None:
        """Count the frames in the file: OpenCV does not report a full disk."""
        capture = cv2.VideoCapture(str(self._part))
        arrived = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if arrived < self._frames:
            raise OSError(f"cannot write {self._path}: it has {arrived} of {self._frames} frames; is the disk full?")
