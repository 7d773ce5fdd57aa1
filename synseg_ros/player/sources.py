"""What the camera player shows: photographs or generated scenes with known truth, or images from files and devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from synseg_model.io.media import open_source
from synseg_ros.player.photographs.tour import BACKGROUND, UNLABELLED, Tour

PHOTOGRAPHS, SCENES = "photographs", "scenes"
DEFAULT_FPS = 15.0
SCENE_SECONDS = 6.0


@dataclass(frozen=True)
class Shot:
    """One image, (H, W, 3) uint8 RGB, and where known the (H, W) uint8 index of every pixel's segment."""

    image: np.ndarray
    index_map: np.ndarray | None = None


class Source(Protocol):
    """Something a camera can show: shots to iterate over, from the beginning every time."""

    live: bool  # sets its own pace and never starts again
    fps: float  # frames per second that it is meant to be shown at
    # JSON list of what the index maps point to: {"kind", "noun", "color"}. Kinds are thing and stuff; of photographs
    # labelled (the noun is drawn wherever it is), background (none of the nouns) and unlabelled (nobody can say).
    segments: str | None

    def __iter__(self) -> Iterator[Shot]: ...


class PhotographSource:
    """Pan and zoom over the photographs that ship with the package, endlessly."""

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
    """Show a generated video there and back again, endlessly.

    All images are drawn at the start, so that the rate holds and showing them costs next to nothing.
    """

    live = False

    def __init__(self, seed: int, width: int, height: int, fps: float) -> None:
        # The generator is needed for nothing else on a robot, so the training package is imported only here.
        from training.scenes.scenes import SceneVideo

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

    Raises MediaError where there is nothing to show.
    """

    segments = None

    def __init__(self, path: str, fps: float) -> None:
        self._source = open_source(path)
        self.live = self._source.kind == "device"
        self.fps = fps or self._source.fps or DEFAULT_FPS

    def __iter__(self) -> Iterator[Shot]:
        return (Shot(image) for _, image in self._source)


def open_camera_source(source: str, seed: int, width: int, height: int, fps: float) -> Source:
    """Open 'photographs', 'scenes' or a path.

    seed is for scenes, width and height (pixels) for photographs and scenes; fps 0 means the source's own.
    """
    if source == PHOTOGRAPHS:
        return PhotographSource(width, height, fps)
    return SceneSource(seed, width, height, fps) if source == SCENES else ImageSource(source, fps)
