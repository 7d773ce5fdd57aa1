"""Hold a finished scene: the image, the exact masks and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from training.scenes.captions import Seen, phrase_many
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
    segments, of which stuff comes first and things follow from back to front.
    """

    image: np.ndarray
    segments: tuple[Segment, ...]
    index_map: np.ndarray
    caption_seed: int

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
                seen.append(Seen(segment.color, segment.noun, x / width, y / height))
        visible = [s for s, area in zip(self.segments, self.areas, strict=True) if area]
        stuff = list(dict.fromkeys(s.noun for s in visible if not s.color))
        rng = np.random.Generator(np.random.PCG64(self.caption_seed))
        return phrase_many(seen, stuff, rng, n)


def _centre(index_map: np.ndarray, index: int) -> tuple[float, float]:
    rows, columns = np.nonzero(index_map == index)
    return float(rows.mean()), float(columns.mean())
