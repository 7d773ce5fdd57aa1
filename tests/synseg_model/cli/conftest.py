"""An engine that every command loads, and images and a video to segment."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.synseg_model.cli.running import save


@pytest.fixture
def engine(color_engine, monkeypatch):
    """Let the command line load the engine that finds colours, whatever model is asked for."""
    monkeypatch.setattr("synseg_model.segmenter.load_engine", lambda *_: color_engine)
    return color_engine


@pytest.fixture
def photos(tmp_path, gradient_image) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in (1, 2, 10):
        save(folder / f"photo{index}.png", np.roll(gradient_image, 10 * index, axis=1))
    return folder


@pytest.fixture
def clip(tmp_path, gradient_image) -> Path:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    for index in range(4):
        writer.write(np.roll(gradient_image, 10 * index, axis=1)[..., ::-1])
    writer.release()
    return path
