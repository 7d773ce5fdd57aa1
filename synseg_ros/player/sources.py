"""What the player can show: photographs and generated scenes with known truth, or images from files and devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from synseg_model.install_hints import foreign_training
from synseg_model.io.sources import open_source
from synseg_ros.player.photographs.tour import BACKGROUND, UNLABELLED, Tour

PHOTOGRAPHS, SCENES = "photographs", "scenes"
DEFAULT_FPS = 15.0
SCENE_SECONDS = 6.0


@dataclass(frozen=True)
class Shot:
    """One image to show.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        index_map: (H, W) uint8, the index of every pixel's segment; None where the truth is not known.
    """

    image: np.ndarray
    index_map: np.ndarray | None = None


class ShotSource(Protocol):
    """Something to show: shots to iterate over, from the beginning every time.

    Attributes:
        live: Whether it sets its own pace and never starts again.
        fps: Frames per second at which it is meant to be shown.
        segments: What index maps point to, a JSON list of {"kind", "noun", "color"}; None where the truth is not known.
            Kinds of scenes are thing and stuff. Kinds of photographs are labelled (the noun is drawn wherever it is),
            background (none of the nouns) and unlabelled (nobody can say).
    """

    live: bool
    fps: float
    segments: str | None

    def __iter__(self) -> Iterator[Shot]: ...


class PhotographSource:
    """Pan and zoom over the photographs that ship with the package, without end.

    Args:
        width: Width of the frames in pixels.
        height: Height of the frames in pixels.
        fps: Frames per second; 0 for DEFAULT_FPS.
    """

    live = False

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.fps = fps or DEFAULT_FPS
        self._tour = Tour(width, height, self.fps)
        others = (UNLABELLED, BACKGROUND)
        self.segments = json.dumps(
            [{"kind": name if name in others else "labelled", "noun": name, "color": None} for name in self._tour.names]
        )

    def __iter__(self) -> Iterator[Shot]:
        return (Shot(*self._tour.frame(index)) for index in count())


class SceneSource:
    """Show a generated video there and back again, without end.

    All images are drawn at the start, so that the rate holds and showing them costs next to nothing.

    Args:
        seed: Which scene.
        width: Width of the frames in pixels.
        height: Height of the frames in pixels.
        fps: Frames per second; 0 for DEFAULT_FPS.

    Raises:
        ValueError: The training package is not installed.
    """

    live = False

    def __init__(self, seed: int, width: int, height: int, fps: float) -> None:
        try:
            # The only import of the training package: a robot does without it.
            from training.scenes.scenes import SceneVideo
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "training":
                raise
            foreign = foreign_training()
            lack = f"but {foreign} is another project's" if foreign else "which is not installed"
            raise ValueError(
                f"source 'scenes' needs the training package, {lack}: run the player in the project's source tree, "
                "or choose 'photographs', an image, a folder, a video or a device"
            ) from None

        self.fps = fps or DEFAULT_FPS
        video = SceneVideo(seed, size=(height, width), fps=self.fps)
        scenes = [video.frame(index) for index in range(max(2, round(SCENE_SECONDS * self.fps)))]
        self.segments = json.dumps(
            [{"kind": part.kind, "noun": part.noun, "color": part.color} for part in scenes[0].segments]
        )
        self._shots = [Shot(scene.image, scene.index_map) for scene in scenes]

    def __iter__(self) -> Iterator[Shot]:
        while True:
            yield from self._shots
            yield from self._shots[-2:0:-1]


class ImageSource:
    """Show an image, the images of a folder in order, a video, or a device such as /dev/video0.

    Args:
        path: Path of the image, folder, video or device.
        fps: Frames per second; 0 for the video's own, else DEFAULT_FPS.

    Raises:
        MediaError: There is nothing to show.
    """

    segments = None

    def __init__(self, path: str, fps: float) -> None:
        self._source = open_source(path)
        self.live = self._source.kind == "device"
        self.fps = fps or self._source.fps or DEFAULT_FPS

    def __iter__(self) -> Iterator[Shot]:
        return (Shot(image) for _, image in self._source)


def make_source(source: str, seed: int, width: int, height: int, fps: float) -> ShotSource:
    """Open what the player is to show.

    Args:
        source: 'photographs', 'scenes' or a path.
        seed: Which scene; for scenes only.
        width: Width of the frames in pixels; for photographs and scenes only.
        height: Height of the frames in pixels; for photographs and scenes only.
        fps: Frames per second; 0 for the source's own.

    Raises:
        ValueError: There is nothing to show, or scenes cannot be generated on this machine.
    """
    if source == PHOTOGRAPHS:
        return PhotographSource(width, height, fps)
    if source == SCENES:
        return SceneSource(seed, width, height, fps)
    return ImageSource(source, fps)
