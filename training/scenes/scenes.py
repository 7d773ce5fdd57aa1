"""Generate captioned images with exact masks, deterministic by seed: things in colours in front of stuff.

`make_scene` draws one image, `SceneVideo` the same kind of things in motion. Only numpy and OpenCV are
needed. The same seed gives the same scene in every process; other sizes of the image hold the same things.
"""

from __future__ import annotations

import numpy as np

from training.scenes.backgrounds import Background, draw_background
from training.scenes.depth import make_geometry
from training.scenes.objects import Appearance, Sprite, draw_look, paste, shade_ground
from training.scenes.photograph import PhotographEffects
from training.scenes.plan import check_request, draw_pairs, draw_pose, draw_sprite, segments_of
from training.scenes.types import Scene, Segment
from training.scenes.video import SceneVideo
from training.scenes.vocabulary import (
    BASE_NOUNS,
    BASE_PAIRS,
    COLORS,
    NOUNS,
    NOVEL_NOUNS,
    NOVEL_PAIRS,
    SPLITS,
    STUFF,
    is_base,
)

__all__ = [
    "BASE_NOUNS",
    "BASE_PAIRS",
    "COLORS",
    "MIN_VISIBLE_FRACTION",
    "NOUNS",
    "NOVEL_NOUNS",
    "NOVEL_PAIRS",
    "SPLITS",
    "STUFF",
    "Scene",
    "SceneVideo",
    "Segment",
    "is_base",
    "make_scene",
    "min_visible_pixels",
]

MIN_VISIBLE_FRACTION = 0.45  # of a thing's silhouette
_MIN_STUFF_FRACTION = 0.2  # of a region of stuff
_SPACE_STREAM = 11  # random numbers of their own: where things are in space changes nothing in the image


def min_visible_pixels(size: tuple[int, int]) -> int:
    """Return how many pixels of every thing are visible at least in a scene of that (height, width)."""
    return max(8, int(0.002 * min(size) ** 2))


class _Placement:
    """Find poses at which every thing and every region of stuff stays visible enough."""

    def __init__(self, background: Background, count: int) -> None:
        self.index_map = background.index_map.copy()
        self.horizon = background.horizon
        self.count = count
        self.visible = np.bincount(self.index_map.ravel(), minlength=len(background.stuff)).astype(float)
        self.least = self.visible * _MIN_STUFF_FRACTION
        self.sprites: list[Sprite] = []

    def add(self, rng: np.random.Generator, look: Appearance) -> None:
        """Try poses, smaller and smaller, until one hides too little of anything to matter."""
        size = self.index_map.shape
        pixels = min_visible_pixels(size)
        fraction = MIN_VISIBLE_FRACTION + 0.45 * rng.random()
        for attempt in range(120):
            if attempt == 60:
                fraction = MIN_VISIBLE_FRACTION
            pose = draw_pose(rng, look.noun, self.count, 0.9 ** (attempt // 10), self.horizon)
            sprite = draw_sprite(look, pose, size)
            window, inside = sprite.inside(size)
            hidden = np.bincount(self.index_map[window][inside], minlength=len(self.visible))
            shown = int(hidden.sum())
            least = max(fraction * sprite.area, pixels)
            if shown >= least and np.all(self.visible - hidden >= self.least):
                break
        else:
            raise RuntimeError(f"found no place for a {look.color} {look.noun} among {self.count} things")
        self.index_map[window][inside] = len(self.visible)
        self.visible = np.append(self.visible - hidden, shown)
        self.least = np.append(self.least, least)
        self.sprites.append(sprite)


def make_scene(
    seed: int,
    size: tuple[int, int] = (128, 128),
    split: str = "all",
    objects: tuple[int, int] = (1, 5),
) -> Scene:
    """Draw the scene of a seed.

    size is (height, width) in pixels, at least 32 each. split "base" holds only base nouns in base colours,
    "novel" at least one novel noun or pair, "all" anything. objects is the least and the most number of
    things, up to 12; of each at least MIN_VISIBLE_FRACTION of its silhouette and `min_visible_pixels` show.
    Raises ValueError for a negative seed and for a size, split or range of objects outside these bounds.
    """
    size = tuple(size)
    check_request(size, split, objects)
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    rng = np.random.Generator(np.random.PCG64([seed, SPLITS.index(split)]))
    count = objects[0] + int(rng.random() * (objects[1] - objects[0] + 1))
    pairs = draw_pairs(rng, split, count)
    looks = [draw_look(rng, *pair) for pair in pairs]
    background = draw_background(rng, *size)
    placement = _Placement(background, count)
    for look in looks:
        placement.add(rng, look)
    image = background.image
    for look, sprite in zip(looks, placement.sprites, strict=True):
        shade_ground(image, sprite, look)
        paste(image, sprite)
    image = PhotographEffects.random(rng).take(image, int(rng.random() * 2**31))
    caption_seed = int(rng.random() * 2**31)
    space = np.random.Generator(np.random.PCG64([seed, SPLITS.index(split), _SPACE_STREAM])).random((count, 2))
    geometry = make_geometry(background.stuff, background.horizon, placement.sprites, size, space)
    return Scene(image, segments_of(background, looks), placement.index_map, caption_seed, geometry)
