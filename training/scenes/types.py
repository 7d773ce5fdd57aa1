"""Hold a finished scene: the image, the exact masks and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synseg_model.instances.depth import Intrinsics
from training.scenes.captions import SeenThing, phrase_many
from training.scenes.depth import Geometry, draw_depth, scene_camera, thing_centers
from training.scenes.vocabulary import parse_label


@dataclass(frozen=True)
class Segment:
    """Name one segment of a scene: a thing (a noun in a colour) or stuff (color is None)."""

    kind: str  # "thing" or "stuff"
    noun: str
    color: str | None


@dataclass(frozen=True, eq=False)
class Scene:
    """Hold one image and its truth.

    image is (H, W, 3) uint8 RGB; index_map is (H, W) uint8 and holds for each pixel the index of its segment in
    segments, of which stuff comes first and things follow from back to front. geometry says where things are in space;
    a part cut out of a scene has none.
    """

    image: np.ndarray
    segments: tuple[Segment, ...]
    index_map: np.ndarray
    caption_seed: int
    geometry: Geometry | None = None

    @cached_property
    def areas(self) -> np.ndarray:
        """Count the visible pixels of each segment, (len(segments),) int."""
        return np.bincount(self.index_map.ravel(), minlength=len(self.segments))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """List the labels with a non-empty mask: stuff, nouns and coloured nouns, each once."""
        found: dict[str, None] = {}
        for segment, area in zip(self.segments, self.areas, strict=True):
            if area:
                found.setdefault(segment.noun)
                if segment.color:
                    found.setdefault(f"{segment.color} {segment.noun}")
        return tuple(found)

    def mask(self, label: str) -> np.ndarray:
        """Return the visible pixels of a label ("ball", "red ball", "grass", in any case), (H, W) bool.

        A label that is not in this scene has an empty mask. Raises ValueError for words no scene can hold.
        """
        color, noun = parse_label(label)
        hit = np.array([s.noun == noun and color in (None, s.color) for s in self.segments])
        return hit[self.index_map]

    @property
    def intrinsics(self) -> Intrinsics:
        """Return the camera that sees the scene."""
        return scene_camera(self.index_map.shape)

    @cached_property
    def depth(self) -> np.ndarray:
        """Measure the distance along the optical axis, (H, W) float32 in metres, NaN in the sky.

        Raises ValueError for a part that was cut out of a scene.
        """
        stuff = [segment.noun for segment in self.segments if segment.kind == "stuff"]
        return draw_depth(self.index_map, stuff, self._geometry())

    @cached_property
    def centers(self) -> np.ndarray:
        """Return the center of each segment, (len(segments), 3) metres in the camera's optical frame; NaN for stuff.

        It is the centroid of the whole thing, hidden parts included. Raises ValueError for a part that was cut out of
        a scene.
        """
        things = thing_centers(self._geometry(), self.index_map.shape)
        return np.concatenate((np.full((len(self.segments) - len(things), 3), np.nan), things))

    def _geometry(self) -> Geometry:
        if self.geometry is None:
            raise ValueError("this scene has no geometry, as it was cut out of another: ask the whole scene for depth")
        return self.geometry

    @cached_property
    def caption(self) -> str:
        """Describe the scene in one sentence."""
        return self.captions(1)[0]

    def captions(self, n: int) -> tuple[str, ...]:
        """Describe the scene in n different ways; the first is `caption`, a larger n only adds to the end."""
        if n < 1:
            raise ValueError(f"cannot make {n} captions; ask for at least 1")
        height, width = self.index_map.shape
        seen = []
        for index in np.flatnonzero(self.areas):
            segment = self.segments[index]
            if segment.color:
                y, x = _centre(self.index_map, int(index))
                seen.append(SeenThing(segment.color, segment.noun, x / width, y / height))
        visible = [s for s, area in zip(self.segments, self.areas, strict=True) if area]
        stuff = list(dict.fromkeys(s.noun for s in visible if not s.color))
        rng = np.random.Generator(np.random.PCG64(self.caption_seed))
        return phrase_many(seen, stuff, rng, n)


def _centre(index_map: np.ndarray, index: int) -> tuple[float, float]:
    rows, columns = np.nonzero(index_map == index)
    return float(rows.mean()), float(columns.mean())
