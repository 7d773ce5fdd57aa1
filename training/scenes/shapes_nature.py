"""Draw the plants, animals and the sky's things of the scenes, each in two variants (v is 0 or 1)."""

from __future__ import annotations

import numpy as np

from training.scenes.polygons import (
    Layer,
    ellipse,
    line,
    mirror,
    paint,
    poly,
    rect,
    smooth,
    solid,
    turn,
)


def apple(v: int) -> list[Layer]:
    body = smooth(0, -0.5, 0.4, -0.68, 0.85, -0.4, 0.88, 0.15, 0.55, 0.8, 0.2, 0.92, 0, 0.85,
                   -0.2, 0.92, -0.55, 0.8, -0.88, 0.15, -0.85, -0.4, -0.4, -0.68)
    leaf = smooth(0.05, -0.72, 0.25, -1.05, 0.7, -1.08, 0.48, -0.78)
    return [solid("wood", line(0.14, 0, -0.45, 0.0, -0.75, -0.12, -1.08)), solid("main", body),
            solid("leaf", leaf), paint("dark", ellipse(0, -0.47, 0.2, 0.07)),
            paint("light", turn(ellipse(-0.42, -0.2, 0.13, 0.26), 20))]


def bird(v: int) -> list[Layer]:
    body = smooth(-0.95, -0.02, -0.4, -0.12, 0.0, -0.22, 0.38, -0.3, 0.62, -0.05, 0.45, 0.38, 0.02, 0.55,
                  -0.42, 0.35)
    tail = poly(-0.45, -0.08, -1.05, -0.38, -1.12, -0.05, -1.0, 0.2, -0.4, 0.28)
    wing = smooth(0.25, -0.02, 0.1, 0.3, -0.35, 0.3, -0.85, 0.02, -0.3, -0.05) if v == 0 else \
        smooth(0.28, 0.0, -0.1, 0.15, -0.3, -0.35, -0.72, -0.95, -0.05, -0.62)
    legs = [line(0.09, x, 0.42, x + 0.02, 0.7, x + 0.04, 0.9, x + 0.22, 0.92) for x in (-0.1, 0.15)]
    return [*[solid("beak", leg) for leg in legs], solid("beak", poly(0.76, -0.58, 1.15, -0.36, 0.74, -0.28)),
            solid("main", tail), solid("main", body), solid("main", ellipse(0.52, -0.42, 0.35, 0.33)),
            solid("dark", wing), paint("white", ellipse(0.62, -0.48, 0.11, 0.11)),
            paint("ink", ellipse(0.64, -0.48, 0.06, 0.06))]


def butterfly(v: int) -> list[Layer]:
    upper = smooth(0.05, -0.1, 0.35, -0.75, 0.85, -0.88, 1.0, -0.45, 0.7, 0.0, 0.3, 0.1)
    lower = smooth(0.05, 0.05, 0.45, 0.1, 0.8, 0.35, 0.7, 0.8, 0.35, 0.78, 0.12, 0.4)
    spots = [ellipse(0.66, -0.5, 0.18, 0.18), ellipse(0.5, 0.48, 0.13, 0.13)]
    wings = [w for half in (upper, lower) for w in (half, mirror(half))]
    feelers = line(0.06, 0.02, -0.4, 0.1, -0.7, 0.26, -0.92)
    return [*[solid("main", w) for w in wings[:2]], *[solid("main", w) for w in wings[2:]],
            paint("dark", lower), paint("dark", mirror(lower)),
            *[paint("light", s) for spot in spots for s in (spot, mirror(spot))],
            solid("ink", feelers), solid("ink", mirror(feelers)), solid("ink", ellipse(0, 0.02, 0.1, 0.52))]


def cloud(v: int) -> list[Layer]:
    puffs = [ellipse(-0.6, 0.18, 0.38, 0.36), ellipse(-0.2, -0.18, 0.44, 0.44), ellipse(0.3, -0.05, 0.4, 0.4),
             ellipse(0.68, 0.22, 0.32, 0.32), rect(-0.6, 0.1, 0.68, 0.54)]
    return [*[solid("main", puff) for puff in puffs],
            paint("light", ellipse(-0.28, -0.26, 0.24, 0.22)), paint("light",
                                                                     ellipse(0.28, -0.12, 0.2, 0.18)),
            paint("dark", smooth(-0.8, 0.4, -0.3, 0.34, 0.3, 0.4, 0.85, 0.36, 0.7, 0.56, -0.65, 0.56))]


def fish(v: int) -> list[Layer]:
    body = smooth(-0.62, 0, -0.2, -0.42, 0.35, -0.48, 0.8, -0.2, 1.0, 0.04, 0.75, 0.3, 0.3, 0.48, -0.2, 0.4)
    tail = smooth(-0.5, 0, -0.8, -0.3, -1.1, -0.58, -0.95, 0, -1.1, 0.58, -0.8, 0.3)
    layers = [solid("dark", poly(-0.25, -0.3, 0.1, -0.75, 0.45, -0.4)),
              solid("dark", poly(-0.05, 0.35, 0.0, 0.72, 0.35, 0.4)),
              solid("main", tail), solid("main", body)]
    if v == 0:
        layers += [paint("light", line(0.14, x, -0.4, x - 0.08, 0, x, 0.4)) for x in (-0.2, 0.15)]
    else:
        spots = ((-0.3, 0), (0, -0.2), (0, 0.18), (0.25, 0))
        layers += [paint("light", ellipse(x, y, 0.1, 0.08)) for x, y in spots]
    return [*layers, paint("dark", line(0.08, 0.42, -0.36, 0.52, 0.0, 0.42, 0.36)),
            paint("white", ellipse(0.7, -0.1, 0.14, 0.14)), paint("ink", ellipse(0.73, -0.1, 0.08, 0.08))]


def flower(v: int) -> list[Layer]:
    n = 6 if v == 0 else 8
    petal = ellipse(0, -0.4, 0.25 if v == 0 else 0.19, 0.34)
    petals = [turn(petal, i * 360 / n) - np.array((0, 0.25)) for i in range(n)]
    leaf = smooth(0, 0.85, 0.2, 0.5, 0.52, 0.42, 0.36, 0.75)
    return [solid("leaf", line(0.1, 0, 0, 0.03, 0.5, 0, 1)), solid("leaf", leaf),
            *[solid("main" if i % 2 else "dark", p) for i, p in enumerate(petals)],
            solid("pollen", ellipse(0, -0.25, 0.23, 0.23))]


def leaf(v: int) -> list[Layer]:
    w = 0.54 if v == 0 else 0.66
    blade = smooth(0.06, 0.62, -w * 0.8, 0.32, -w, -0.1, -w * 0.55, -0.6, 0, -1, w * 0.55, -0.6, w, -0.1,
                   w * 0.8, 0.32)
    veins = [line(0.06, 0, y, s * w * 0.66, y - 0.28) for y in (0.3, 0.0, -0.3) for s in (1, -1)]
    return [solid("dark", line(0.11, 0, 0.55, 0.02, 0.8, 0.1, 1)), solid("main", blade),
            paint("light", line(0.08, 0, 0.6, 0, -0.85)),
            *[paint("light", vein) for vein in veins]]


def moon(v: int) -> list[Layer]:
    inner = 0.55 if v == 0 else 0.35
    crescent = np.concatenate([ellipse(0, 0, 1, 1, 60, 300),
                               ellipse(0.5, 0, np.hypot(inner - 0.5, 0) + 0.55, 0.866, 270, 90)])
    holes = [(-0.72, 0.1, 0.11), (-0.5, -0.5, 0.13), (-0.45, 0.55, 0.12)]
    return [solid("main", crescent), *[paint("dark", ellipse(x, y, r, r)) for x, y, r in holes]]


def mushroom(v: int) -> list[Layer]:
    cap = np.concatenate([ellipse(0, 0.05, 1, 0.95, 180, 360),
                          ellipse(0, 0.05, 1, 0.18, 0, 180)]) if v == 0 else \
        np.concatenate([ellipse(0, -0.05, 0.9, 0.75, 180, 360), ellipse(0, -0.05, 0.9, 0.25, 0, 180)])
    stalk = smooth(-0.26, 0.0, 0.26, 0.0, 0.25, 0.5, 0.38, 0.92, -0.38, 0.92, -0.25, 0.5)
    spots = [(-0.5, -0.22, 0.17), (0.05, -0.5, 0.2), (0.55, -0.2, 0.16), (0.02, -0.02, 0.1)]
    return [solid("paper", stalk), solid("main", cap),
            *[paint("spot", ellipse(x, y, r, r * 0.85)) for x, y, r in spots]]


def tree(v: int) -> list[Layer]:
    trunk = poly(-0.13, 0.2, 0.13, 0.2, 0.2, 1, -0.2, 1)
    if v == 1:
        tiers = [poly(-0.66, 0.6, 0, -0.15, 0.66, 0.6), poly(-0.54, 0.18, 0, -0.55, 0.54, 0.18),
                 poly(-0.4, -0.26, 0, -1, 0.4, -0.26)]
        shade = [poly(0, t[1, 1], t[2, 0], t[2, 1], 0.05, t[2, 1]) for t in tiers]
        return [solid("wood", trunk),
                *[layer for t,
                  s in zip(tiers, shade, strict=True) for layer in (solid("main", t), paint("dark", s))]]
    blobs = [(-0.42, 0.02, 0.42), (0.42, 0.02, 0.42), (0, -0.45, 0.52), (0, 0.08, 0.45)]
    leaves = [(-0.3, -0.5, 0.12), (0.2, -0.6, 0.1), (-0.5, -0.05, 0.12), (0.1, -0.2, 0.12), (0.5, -0.1, 0.1)]
    return [solid("wood", trunk), *[solid("main", ellipse(x, y, r, r)) for x, y, r in blobs],
            paint("dark", smooth(-0.7, 0.22, 0, 0.3, 0.7, 0.22, 0.3, 0.55, -0.3, 0.55)),
            *[paint("light", ellipse(x, y, r, r)) for x, y, r in leaves]]
