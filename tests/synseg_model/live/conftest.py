"""A listener that notes what a feed says, videos, and a Segmenter that finds colours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from synseg_model.segmenter import Segmenter

PATIENCE = 60.0  # seconds; only ever used up by a failure


class Notes:
    """Note everything that is said, by any thread, and wait for what is expected."""

    def __init__(self):
        self.frames, self.labels, self.refusals, self.troubles = [], [], [], []
        self.states, self.drawn = 0, []
        self._changed = threading.Condition()

    def _note(self, kept: list, value):
        with self._changed:
            kept.append(value)
            self._changed.notify_all()

    def on_frame(self, frame):
        self._note(self.frames, frame)

    def on_labels(self, labels):
        self._note(self.labels, labels)

    def on_refusal(self, reason):
        self._note(self.refusals, reason)

    def on_trouble(self, part, reason):
        self._note(self.troubles, (part, reason))

    def on_state(self):
        with self._changed:
            self.states += 1
            self._changed.notify_all()

    def on_drawn(self, drawn):
        self._note(self.drawn, drawn)

    def wait(self, condition: Callable[[], object], what: str):
        """Wait until a condition holds, which what is noted makes true."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), f"waited {PATIENCE:.0f} s in vain for {what}"
        return condition()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def segmenter(color_engine, tmp_path) -> Segmenter:
    return Segmenter(color_engine, max_labels=5, cache_dir=tmp_path / "texts")


@pytest.fixture
def make_video(tmp_path) -> Callable[..., Path]:
    """Write a video of frames (H,W,3)."""

    def make(frames, name: str = "clip.avi", fps: float = 25.0) -> Path:
        path = tmp_path / name
        height, width = frames[0].shape[:2]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
        if not writer.isOpened():
            pytest.skip("this OpenCV writes no Motion JPEG")
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        return path

    return make


@pytest.fixture
def clip(make_video, gradient_image) -> Path:
    return make_video([np.roll(gradient_image, 10 * index, axis=1) for index in range(12)])
