"""Plan what a scene or a video holds: which things in which colours, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.scenes.backgrounds import Background
from training.scenes.objects import Appearance, Sprite, draw_angle, draw_object
from training.scenes.types import Segment
from training.scenes.vocabulary import ALL_PAIRS, BASE_PAIRS, NOVEL_NOUN_OR_PAIR, SPLITS, is_base

MAX_OBJECTS = 12
_MIN_SIZE = 32
_FLYING = frozenset({"bird", "butterfly", "cloud", "moon", "rocket", "star"})
_FLOATING = frozenset({"arrow", "cross", "heart", "ring", "triangle"})  # as likely above as below the horizon


@dataclass(frozen=True)
class Pose:
    """Place an object: centre and side as fractions of (width, height) and of the short side, degrees."""

    x: float
    y: float
    side: float
    angle: float


def check_request(size: tuple[int, int], split: str, objects: tuple[int, int]) -> None:
    """Raise ValueError for a size, split or range of object counts that cannot be drawn."""
    if len(size) != 2 or min(size) < _MIN_SIZE:
        raise ValueError(f"size is (height, width) of at least {_MIN_SIZE} pixels each, not {size!r}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if len(objects) != 2 or not 1 <= objects[0] <= objects[1] <= MAX_OBJECTS:
        raise ValueError(
            f"objects is (least, most) with 1 <= least <= most <= {MAX_OBJECTS}, not {objects!r}"
        )


def draw_pairs(
    rng: np.random.Generator, split: str, count: int, related: float = 1.0
) -> list[tuple[str, str]]:
    """Choose (color, noun) of every object.

    Some repeat a pair, a noun or a colour, so that learners must tell the words apart;
    related scales how often.
    """
    pool = BASE_PAIRS if split == "base" else ALL_PAIRS
    pairs = [_pick(rng, pool)]
    while len(pairs) < count:
        u = rng.random() / related
        color, noun = pairs[int(rng.random() * len(pairs))]
        if u < 0.12:
            pairs.append((color, noun))
        elif u < 0.27:
            pairs.append(_pick(rng, tuple(p for p in pool if p[1] == noun)))
        elif u < 0.42:
            pairs.append(_pick(rng, tuple(p for p in pool if p[0] == color)))
        else:
            pairs.append(_pick(rng, pool))
    if split == "novel" and all(is_base(*pair) for pair in pairs):
        pairs[int(rng.random() * count)] = _pick(rng, NOVEL_NOUN_OR_PAIR)
    return pairs


def _pick(rng: np.random.Generator, pool: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    return pool[int(rng.random() * len(pool))]


def draw_pose(rng: np.random.Generator, noun: str, count: int, shrink: float, horizon: float) -> Pose:
    """Choose a pose for one of count things: often where it would be in the world, else anywhere inside."""
    u = rng.random(5)
    largest = 0.5 if count <= 2 else 0.44 if count <= 4 else 0.36
    side = (0.22 + (largest - 0.22) * u[0] ** 1.2) * shrink
    x, y = (side * 0.45 + (1 - side * 0.9) * v for v in u[1:3])
    if u[3] < 0.65 and noun not in _FLOATING and 0 < horizon < 1:
        foot = 1 - side * 0.5
        low = min(horizon, foot) if noun not in _FLYING else side * 0.45
        high = foot if noun not in _FLYING else max(horizon - side * 0.2, side * 0.45)
        y = low + (high - low) * u[4]
    return Pose(float(x), float(y), float(side), draw_angle(rng, noun))


def draw_sprite(look: Appearance, pose: Pose, size: tuple[int, int]) -> Sprite:
    """Draw an object at its pose in an image of (height, width)."""
    height, width = size
    return draw_object(look, pose.x * width, pose.y * height, pose.side * min(size), pose.angle)


def segments_of(background: Background, looks: list[Appearance]) -> tuple[Segment, ...]:
    """List the segments in the order of their indices: stuff, then things from back to front."""
    stuff = [Segment("stuff", name, None) for name in background.stuff]
    return (*stuff, *[Segment("thing", look.noun, look.color) for look in looks])
