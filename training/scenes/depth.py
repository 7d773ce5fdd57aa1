"""Give a scene a third dimension: things are boards that face the camera, between it and the ground and a backdrop.

Nothing of it shows in the image: it is what a depth camera in the same place would measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synseg_model.instances.depth import Intrinsics
from training.scenes.objects import Sprite

_NEAREST, _FURTHEST = 1.0, 3.0  # metres, between which things stand
_GROUND = 3.5  # metres to the ground at the lower edge of the image
_ROOM, _LANDSCAPE = 6.0, 20.0  # metres to the backdrop
_INDOORS = frozenset({"wall", "curtain"})
_BACKDROP = frozenset({*_INDOORS, "mountain"})
_NOTHING = "sky"  # too far to be measured
_SWAY = 0.35  # of the room that a thing has before the next: how far it moves to either side


@dataclass(frozen=True)
class Geometry:
    """Hold where a scene's things are; what is in the image is given in fractions of its width and height.

    Args:
        horizon: fraction of the height at which the ground meets the backdrop.
        backdrop: metres to the backdrop.
        distances: metres to each thing, from back to front.
        centers: x, y of the centroid of each thing's whole silhouette, hidden parts included.
    """

    horizon: float
    backdrop: float
    distances: tuple[float, ...]
    centers: tuple[tuple[float, float], ...]


def make_geometry(
    stuff: Sequence[str],
    horizon: float,
    sprites: Sequence[Sprite],
    size: tuple[int, int],
    random: np.ndarray,
    seconds: float = 0.0,
) -> Geometry:
    """Place things in space, each in front of those that it is drawn over.

    Args:
        stuff: of the background, in the order of its indices.
        horizon: fraction of the height.
        sprites: N drawn things, from back to front.
        size: (H,W) of the image.
        random: (N,2) in [0, 1), which chooses where in its part of the room each thing is and how it sways.
        seconds: time in a video.
    """
    room = (_FURTHEST - _NEAREST) / max(1, len(sprites))
    phase = 2 * np.pi * (0.1 * seconds + random[:, 1])
    place = 0.5 + (random[:, 0] - 0.5) * (1 - 2 * _SWAY) + _SWAY * np.sin(phase)
    distances = _FURTHEST - room * (np.arange(len(sprites)) + place)
    return Geometry(
        horizon=float(horizon),
        backdrop=_ROOM if stuff[0] in _INDOORS else _LANDSCAPE,
        distances=tuple(distances.tolist()),
        centers=tuple(_center(sprite, size) for sprite in sprites),
    )


def _center(sprite: Sprite, size: tuple[int, int]) -> tuple[float, float]:
    moments = cv2.moments((sprite.alpha >= 128).view(np.uint8), binaryImage=True)
    x, y = moments["m10"] / moments["m00"] + sprite.x, moments["m01"] / moments["m00"] + sprite.y
    return (x + 0.5) / size[1], (y + 0.5) / size[0]


def scene_camera(size: tuple[int, int]) -> Intrinsics:
    """Return the camera of a scene of (height, width): 53 degrees wide, along the longer side."""
    height, width = size
    return Intrinsics(max(size), max(size), (width - 1) / 2, (height - 1) / 2, width, height)


def draw_depth(index_map: np.ndarray, stuff: Sequence[str], geometry: Geometry) -> np.ndarray:
    """Measure how far along the optical axis each pixel is.

    Args:
        index_map: (H,W) uint8, the stuff first, then the things from back to front.
        stuff: of the background.
        geometry: of the scene.

    Returns:
        (H,W) float32 in metres, NaN in the sky.
    """
    height = len(index_map)
    level = geometry.horizon * height
    below = np.clip((np.arange(height) + 0.5 - level) / max(height - level, 1e-6), 0, 1)
    # On a plane, 1 / depth changes evenly with the row.
    ground = 1 / (1 / geometry.backdrop + below * (1 / _GROUND - 1 / geometry.backdrop))
    table = np.empty((len(stuff) + len(geometry.distances), height), np.float32)
    for index, name in enumerate(stuff):
        table[index] = np.nan if name == _NOTHING else geometry.backdrop if name in _BACKDROP else ground
    table[len(stuff) :] = np.array(geometry.distances)[:, None]
    return table[index_map, np.arange(height)[:, None]]


def thing_centers(geometry: Geometry, size: tuple[int, int]) -> np.ndarray:
    """Return the center of each thing in the camera's optical frame, (N,3) metres, for an image of (height, width)."""
    camera, z = scene_camera(size), np.array(geometry.distances)
    at = np.array(geometry.centers).reshape(-1, 2) * (camera.width, camera.height) - 0.5
    return np.stack(((at[:, 0] - camera.cx) / camera.fx * z, (at[:, 1] - camera.cy) / camera.fy * z, z), axis=1)
