"""Look up the polygons of every noun of the scenes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from training.scenes import shapes_figures as figures
from training.scenes import shapes_nature as nature
from training.scenes import shapes_objects as objects
from training.scenes.polygons import Layer, Shape, stack

VARIANTS = 2
_DRAW: dict[str, Callable[[int], list[Layer]]] = {
    "apple": nature.apple,
    "arrow": figures.arrow,
    "ball": figures.ball,
    "bell": objects.bell,
    "bird": nature.bird,
    "boat": objects.boat,
    "bottle": objects.bottle,
    "butterfly": nature.butterfly,
    "car": objects.car,
    "chair": objects.chair,
    "cloud": nature.cloud,
    "cross": figures.cross,
    "crown": objects.crown,
    "cube": figures.cube,
    "cup": objects.cup,
    "fish": nature.fish,
    "flower": nature.flower,
    "hat": objects.hat,
    "heart": figures.heart,
    "house": objects.house,
    "key": objects.key,
    "leaf": nature.leaf,
    "moon": nature.moon,
    "mushroom": nature.mushroom,
    "ring": figures.ring,
    "rocket": objects.rocket,
    "star": figures.star,
    "tree": nature.tree,
    "triangle": figures.triangle,
    "umbrella": objects.umbrella,
}


@cache
def shape(noun: str, variant: int) -> Shape:
    """Return the polygons of a noun; variant counts modulo VARIANTS."""
    return stack(_DRAW[noun](variant % VARIANTS))
