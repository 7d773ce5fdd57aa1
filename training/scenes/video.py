"""Move the things of a scene: a video with random access to its frames."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from training.scenes.backgrounds import Background, draw_background
from training.scenes.depth import make_geometry
from training.scenes.objects import FREE_ROTATION, draw_look, paste, shade_ground
from training.scenes.photograph import PhotographEffects
from training.scenes.plan import Pose, check_request, draw_pairs, draw_sprite, segments_of
from training.scenes.types import Scene, Segment
from training.scenes.vocabulary import SPLITS

_VIDEO_STREAM = 7  # keeps the random numbers of a video apart from those of the scene with the same seed


class SceneVideo:
    """Draw a still background and things that wander, bounce, turn and pass before each other.

    size, split and objects are as in `scenes.make_scene`; fps is the number of frames in a second of motion.
    Segments keep their order and indices over the whole video, also while one is hidden for a moment. A frame
    depends on its index and these arguments alone. Raises ValueError as make_scene does.
    """

    def __init__(
        self,
        seed: int,
        size: tuple[int, int] = (480, 640),
        split: str = "all",
        objects: tuple[int, int] = (4, 6),
        fps: float = 30,
    ) -> None:
        check_request(tuple(size), split, objects)
        if seed < 0 or fps <= 0:
            raise ValueError(f"seed must be 0 or more and fps positive, not {seed} and {fps}")
        self.seed, self.size, self.fps = seed, tuple(size), fps
        rng = np.random.Generator(np.random.PCG64([seed, SPLITS.index(split), _VIDEO_STREAM]))
        count = objects[0] + int(rng.random() * (objects[1] - objects[0] + 1))
        self._looks = [draw_look(rng, *pair) for pair in draw_pairs(rng, split, count, related=0.4)]
        self._motion = rng.random((count, 9))
        # start apart: one height for each thing, and places spread over the way there and back
        self._lane = (rng.permutation(count) + 0.5) / count
        self._start = 2 * (rng.permutation(count) + 0.5) / count
        self._camera = PhotographEffects.random(rng)
        self._space = rng.random((count, 2))

    @cached_property
    def background(self) -> Background:
        """Return the empty scene; it is drawn once."""
        return draw_background(np.random.Generator(np.random.PCG64([self.seed, _VIDEO_STREAM])), *self.size)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """List the segments of every frame: stuff, then things from back to front."""
        return segments_of(self.background, self._looks)

    def pose(self, thing: int, seconds: float) -> Pose:
        """Return where a thing (counted from the back) is at a time: it bounces sideways, sways and turns."""
        u = self._motion[thing]
        count = len(self._looks)
        largest = 0.35 if count <= 6 else 0.28
        side = 0.22 + (largest - 0.22) * u[0] + 0.012 * np.sin(2 * np.pi * (seconds * 0.2 + u[1]))
        margin_x = side * 0.5 * min(self.size) / self.size[1]
        margin_y = side * 0.5 * min(self.size) / self.size[0]
        across = abs((self._start[thing] + seconds * (0.05 + 0.07 * u[3])) % 2 - 1)
        swing = 0.5 + 0.5 * np.sin(2 * np.pi * (seconds * (0.06 + 0.08 * u[4]) + u[5]))
        x = margin_x + (1 - 2 * margin_x) * across
        y = margin_y + (1 - 2 * margin_y) * (0.75 * self._lane[thing] + 0.25 * swing)
        noun = self._looks[thing].noun
        if noun in FREE_ROTATION:
            angle = 360 * (u[6] + seconds * (0.04 + 0.1 * u[7]) * (1 if u[8] < 0.5 else -1))
        else:
            angle = 24 * np.sin(2 * np.pi * (seconds * (0.1 + 0.15 * u[7]) + u[6]))
        return Pose(float(x), float(y), float(side), float(angle))

    def frame(self, index: int) -> Scene:
        """Draw one frame. Raises ValueError for a negative index."""
        if index < 0:
            raise ValueError(f"frame index must be 0 or more, not {index}")
        image, index_map = self.background.image.copy(), self.background.index_map.copy()
        first = len(self.background.stuff)
        sprites = []
        for thing, look in enumerate(self._looks):
            sprite = draw_sprite(look, self.pose(thing, index / self.fps), self.size)
            sprites.append(sprite)
            shade_ground(image, sprite, look)
            paste(image, sprite)
            window, inside = sprite.inside(self.size)
            index_map[window][inside] = first + thing
        image = self._camera.take(image, index)
        background, seconds = self.background, index / self.fps
        geometry = make_geometry(background.stuff, background.horizon, sprites, self.size, self._space, seconds)
        return Scene(image, self.segments, index_map, self.seed, geometry)
