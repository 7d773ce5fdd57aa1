"""Draw the plain figures of the scenes, each in two variants (v is 0 or 1)."""

from __future__ import annotations

import numpy as np

from training.scenes.polygons import Contour, Layer, ellipse, paint, poly, solid, spikes, turn


def arrow(v: int) -> list[Layer]:
    head, shaft = (0.15, 0.24) if v == 0 else (-0.05, 0.3)
    outer = poly(-1, -shaft, head, -shaft, head, -0.75, 1, 0, head, 0.75, head, shaft, -1, shaft)
    return [solid("main", outer), paint("dark", poly(-1, 0, 1, 0, head, 0.75, head, shaft, -1, shaft))]


def ball(v: int) -> list[Layer]:
    layers = [solid("main", ellipse(0, 0, 1, 1))]
    if v == 0:
        segment = np.concatenate([ellipse(0, 0, 0.85, 1, -90, 90), ellipse(0, 0, 0.35, 1, -90, 90)[::-1]])
        layers += [paint("light", segment), paint("light", -segment)]
    else:
        band = np.concatenate([ellipse(0, -0.22, 0.98, 0.32, 0, 180), ellipse(0, 0.22, 0.98, 0.32, 180, 0)])
        layers += [paint("dark", band)]
    return [*layers, paint("white", turn(ellipse(-0.1, -0.62, 0.24, 0.13), -35))]


def cross(v: int) -> list[Layer]:
    a = 0.3 if v == 0 else 0.38
    b = a - 0.14

    def plus(r: float, w: float) -> Contour:
        return poly(-w, -r, w, -r, w, -w, r, -w, r, w, w, w, w, r, -w, r, -w, w, -r, w, -r, -w, -w, -w)

    return [solid("main", plus(1, a)), paint("light", plus(0.86, b))]


def cube(v: int) -> list[Layer]:
    top = poly(0, -1, 0.87, -0.5, 0, 0, -0.87, -0.5)
    left = poly(-0.87, -0.5, 0, 0, 0, 1, -0.87, 0.5)
    right = poly(0.87, -0.5, 0, 0, 0, 1, 0.87, 0.5)
    return [solid("main", left), solid("light", top), solid("dark", right)]


def heart(v: int) -> list[Layer]:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    heart = np.stack([16 * np.sin(t) ** 3, -y], 1) / 16
    inside = turn(ellipse(-0.45, -0.4, 0.14, 0.25), 35) if v == 0 else heart * 0.62
    return [solid("main", heart), paint("light", inside)]


def ring(v: int) -> list[Layer]:
    r = 0.56 if v == 0 else 0.66
    m = (1 + r) / 2
    return [solid("main", ellipse(0, 0, 1, 1), ellipse(0, 0, r, r)),
            paint("light", ellipse(0, 0, m + 0.06, m + 0.06), ellipse(0, 0, m - 0.06, m - 0.06))]


def star(v: int) -> list[Layer]:
    if v == 1:
        star = spikes(5, 0.5)
        return [solid("main", star), paint("light", star * 0.55)]
    star = spikes(5, 0.42)
    facets = [np.array([[0, 0], star[i], star[(i + 1) % 10]]) for i in range(0, 10, 2)]
    return [solid("main", star), *[paint("dark", f) for f in facets]]


def triangle(v: int) -> list[Layer]:
    outer = poly(0, -0.9, 1, 0.82, -1, 0.82)
    inner = (outer - (0, 0.25)) * (0.5 if v == 0 else 0.68) + (0, 0.25)
    return [solid("main", outer), paint("dark" if v == 0 else "light", inner)]
