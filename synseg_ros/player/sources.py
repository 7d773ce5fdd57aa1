"""What the player can show: photographs and generated scenes with known truth, or images from files and devices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import numpy as np

from synseg_model.install_hints import foreign_training
from synseg_model.instances import Intrinsics
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
        measure: Returns the depth (H, W) float32 in metres, NaN where there is none; None where it is not known.
        centers: (N, 3) where every segment is, in metres in the camera's optical frame, NaN for those without a place;
            None where it is not known.
    """

    image: np.ndarray
    index_map: np.ndarray | None = None
    measure: Callable[[], np.ndarray] | None = None
    centers: np.ndarray | None = None


class ShotSource(Protocol):
    """Something to show: shots to iterate over, from the beginning every time.

    Attributes:
        live: Whether it sets its own pace and never starts again.
        fps: Frames per second at which it is meant to be shown.
        segments: What index maps point to, a JSON list of {"kind", "noun", "color"}; None where the truth is not known.
            Kinds of scenes are thing and stuff. Kinds of photographs are labelled (the noun is drawn wherever it is),
            background (none of the nouns) and unlabelled (nobody can say).
        intrinsics: The camera of all images; None where it is not known.
        names: What each segment is called, such as "red ball"; empty where it is not known.
    """

    live: bool
    fps: float
    segments: str | None
    intrinsics: Intrinsics | None
    names: tuple[str, ...]

    def __iter__(self) -> Iterator[Shot]: ...


class PhotographSource:
    """Pan and zoom over the photographs that ship with the package, without end.

    Args:
        width: Width of the frames in pixels.
        height: Height of the frames in pixels.
        fps: Frames per second; 0 for DEFAULT_FPS.
    """

    live = False
    intrinsics, names = None, ()

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
        self.names = tuple(f"{part.color or ''} {part.noun}".strip() for part in scenes[0].segments)
        self.intrinsics = scenes[0].intrinsics
        self._shots = [
            # The depth of all images would take as much memory as the images: it is drawn when it is asked for.
            Shot(scene.image, scene.index_map, lambda scene=scene: replace(scene).depth, scene.centers)
            for scene in scenes
        ]

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

    segments = intrinsics = None
    names = ()

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
