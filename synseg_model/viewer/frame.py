"""What a viewer gets of one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synseg_model.instances import POINT, Instance, Position
from synseg_model.result import Result
from synseg_model.vocabulary import Vocabulary

__all__ = ["SeenMaps", "Space", "ViewedFrame", "for_another_thread"]


@dataclass(frozen=True, eq=False)
class SeenMaps:
    """Hold what a viewer reads from a Result.

    Attributes:
        vocabulary: the labels.
        label_map, confidence: as `Result` has them.
    """

    vocabulary: Vocabulary
    label_map: np.ndarray
    confidence: np.ndarray

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the vocabulary."""
        return self.vocabulary.labels

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the labels in `label_map`."""
        return self.vocabulary.ids

    @property
    def shape(self) -> tuple[int, int]:
        """(H,W) of the image in pixels."""
        return self.label_map.shape


@dataclass(frozen=True, eq=False)
class Space:
    """Say where things of one frame are in space.

    Attributes:
        frame_id: name of the coordinate frame.
        optical: whether it is the camera's: x right, y down, z forward. Others have x forward, y left, z up.
        positions: per instance of the frame its position, or why it is not known.
        points: (N,) POINT in that frame.
    """

    frame_id: str
    optical: bool = True
    positions: Sequence[Position | str] = ()
    points: np.ndarray = field(default_factory=lambda: np.empty(0, POINT))


@dataclass(frozen=True, eq=False)
class ViewedFrame:
    """Hold what a viewer shows of one frame.

    Attributes:
        camera: name of the camera.
        number: number of the frame among those of its camera, from 0.
        image: (H,W,3) uint8 RGB.
        result: what was found in the image.
        instances: the single objects in it.
        stamp: nanoseconds since 1970 at which the image was taken, by the camera's clock; None where it is not known.
        seconds: the same in a video, from its start; None for other images.
        name: name of the image file; "" for none.
        space: where things are; None where it is not known.
    """

    camera: str
    number: int
    image: np.ndarray
    result: Result | SeenMaps
    instances: Sequence[Instance] = ()
    stamp: int | None = None
    seconds: float | None = None
    name: str = ""
    space: Space | None = None


def for_another_thread(result: Result) -> Result | SeenMaps:
    """Return what another thread may read while this one goes on with the result.

    What is on a GPU is copied to the host here, because only the engine's thread uses the GPU. On the CPU, the other
    thread computes the maps.

    Args:
        result: the result of an image.
    """
    if result.on_device:
        return SeenMaps(result.vocabulary, result.label_map, result.confidence)
    return Result(result.vocabulary, result.maps, result.shape)  # its caches are its own; only `maps` is shared
