"""Draw the made things of the scenes, each in two variants (v is 0 or 1)."""

from __future__ import annotations

import numpy as np

from training.scenes.polygons import Layer, ellipse, line, mirror, paint, poly, rect, smooth, solid


def bell(v: int) -> list[Layer]:
    body = smooth(0, -0.82, 0.32, -0.72, 0.5, -0.35, 0.58, 0.2, 0.95, 0.62, 0.8, 0.72, 0, 0.74,
                   -0.8, 0.72, -0.95, 0.62, -0.58, 0.2, -0.5, -0.35, -0.32, -0.72)
    return [solid("dark", ellipse(0, 0.76, 0.24, 0.24)), solid("dark", ellipse(0, -0.86, 0.17, 0.17)),
            solid("main", body), paint("dark", rect(-0.72, 0.34, 0.72, 0.46)),
            paint("light", smooth(-0.3, -0.45, -0.2, -0.5, -0.28, 0.2, -0.42, 0.2))]


def boat(v: int) -> list[Layer]:
    hull = poly(-1, 0.4, 1, 0.4, 0.66, 0.95, -0.66, 0.95)
    return [solid("wood", rect(-0.05, -1, 0.05, 0.45)), solid("main", hull),
            solid("main", smooth(0.1, -0.92, 0.1, 0.28, 0.82, 0.28, 0.55, -0.3, steps=5)),
            solid("light", poly(-0.1, -0.75, -0.1, 0.28, -0.7, 0.28)),
            paint("dark", poly(-0.87, 0.6, 0.87, 0.6, 0.66, 0.95, -0.66, 0.95))]


def bottle(v: int) -> list[Layer]:
    w = 0.52 if v == 0 else 0.44
    right = poly(0.18, -0.8, 0.18, -0.45, w, -0.15, w, 0.9, w - 0.08, 1)
    body = np.concatenate([right, mirror(right)[::-1]])
    return [solid("main", body), solid("dark", rect(-0.23, -1, 0.23, -0.78)),
            paint("paper", rect(-w, 0.15, w, 0.62)), paint("dark", rect(-w * 0.6, 0.3, w * 0.6, 0.38)),
            paint("light", rect(-w + 0.08, -0.12, -w + 0.17, 0.12))]


def car(v: int) -> list[Layer]:
    body = poly(-1, 0.0, -0.95, -0.08, 0.8, -0.08, 0.97, 0.02, 1, 0.36, -1, 0.36)
    rear = (-0.72, -0.02, -0.5, -0.52) if v == 0 else (-0.9, -0.02, -0.82, -0.52)
    cabin = poly(*rear, 0.25 if v == 0 else 0.35, -0.52, 0.56, -0.02)
    layers = [solid("main", cabin), solid("main", body), paint("dark", rect(-1, 0.2, 1, 0.36)),
              paint("glass", poly(-0.6, -0.08, -0.44, -0.43, -0.16, -0.43, -0.16, -0.08)),
              paint("glass", poly(-0.06, -0.08, -0.06, -0.43, 0.2, -0.43, 0.42, -0.08)),
              paint("lamp", ellipse(0.92, 0.08, 0.08, 0.08))]
    for x in (-0.55, 0.55):
        layers += [solid("ink", ellipse(x, 0.36, 0.25, 0.25)), paint("steel", ellipse(x, 0.36, 0.11, 0.11))]
    return layers


def chair(v: int) -> list[Layer]:
    seat = poly(-0.62, 0.1, 0.4, 0.1, 0.66, 0.34, -0.36, 0.34)
    legs = [rect(-0.62, 0.1, -0.47, 0.85), rect(0.26, 0.1, 0.4, 0.72), rect(0.52, 0.3, 0.66, 1),
            rect(-0.36, 0.3, -0.21, 1)]
    back = [rect(-0.62, -1, -0.47, 0.2), rect(0.25, -1, 0.4, 0.2), rect(-0.6, -0.95, 0.38, -0.66),
            rect(-0.6, -0.45, 0.38, -0.2)]
    return [*[solid("dark", leg) for leg in legs], *[solid("main", b) for b in back], solid("light", seat),
            solid("main", poly(-0.36, 0.34, 0.66, 0.34, 0.66, 0.46, -0.36, 0.46))]


def crown(v: int) -> list[Layer]:
    tips = [(-0.95, -0.35), (-0.5, -0.5), (0, -0.68), (0.5, -0.5), (0.95, -0.35)]
    top: list[float] = []
    for i, (x, y) in enumerate(tips):
        top += [x, y] + ([(x + tips[i + 1][0]) / 2, 0.1] if i < 4 else [])
    body = poly(*top, 0.78, 0.72, -0.78, 0.72)
    return [solid("main", body), *[solid("dark", ellipse(x, y, 0.12, 0.12)) for x, y in tips],
            paint("dark", rect(-0.9, 0.42, 0.9, 0.72)),
            *[paint("light", ellipse(x, 0.57, 0.09, 0.1)) for x in (-0.5, 0, 0.5)]]


def cup(v: int) -> list[Layer]:
    w = 0.45 if v == 0 else 0.6
    body = np.concatenate([ellipse(-0.15, 0.72, w, 0.2, 0, 180), poly(-0.8, -0.6, 0.5, -0.6)])
    return [solid("main", ellipse(0.48, 0.0, 0.48, 0.46), ellipse(0.48, 0.0, 0.27, 0.25)),
            solid("main", body), solid("light", ellipse(-0.15, -0.6, 0.65, 0.2)),
            paint("coffee", ellipse(-0.15, -0.57, 0.52, 0.13)),
            paint("light", line(0.16, -0.72, 0.02, -0.15, 0.12, 0.42, 0.02))]


def hat(v: int) -> list[Layer]:
    if v == 0:
        crown = poly(-0.5, 0.5, -0.58, -0.72, 0.58, -0.72, 0.5, 0.5)
    else:
        crown = smooth(-0.56, 0.5, -0.58, 0.0, -0.35, -0.52, 0, -0.42, 0.35, -0.52, 0.58, 0.0, 0.56, 0.5)
    return [solid("main", ellipse(0, 0.48, 1, 0.24)), solid("main", crown),
            paint("dark", ellipse(0, 0.56, 0.9, 0.13, 0, 180)),
            paint("band", poly(-0.56, 0.18, 0.56, 0.18, 0.53, 0.48, 0, 0.54, -0.53, 0.48))]


def house(v: int) -> list[Layer]:
    roof = poly(-1, -0.1, 0, -0.92, 1, -0.1) if v == 0 else poly(-1, -0.1, -0.6, -0.75, 0.6, -0.75, 1, -0.1)
    windows = [rect(-0.6, 0.15, -0.22, 0.5), rect(0.3, 0.15, 0.64, 0.5)]
    panes = [(w - w.mean(0)) * 0.72 + w.mean(0) for w in windows]
    return [solid("dark", rect(0.42, -0.95, 0.64, -0.2)), solid("main", rect(-0.8, -0.15, 0.8, 0.95)),
            solid("dark", roof),
            *[paint("paper", w) for w in windows], *[paint("glass", pane) for pane in panes],
            paint("wood", rect(-0.14, 0.35, 0.2, 0.95))]


def key(v: int) -> list[Layer]:
    if v == 0:
        teeth = [rect(0.58, 0.05, 0.72, 0.36), rect(0.82, 0.05, 0.97, 0.42)]
    else:
        teeth = [rect(0.45, 0.05, 0.6, 0.34), rect(0.68, 0.05, 0.8, 0.4), rect(0.86, 0.05, 0.98, 0.34)]
    head = ellipse(-0.58, 0, 0.44, 0.44)
    return [solid("main", rect(-0.25, -0.11, 1, 0.11)), *[solid("main", t) for t in teeth],
            solid("main", head, ellipse(-0.62, 0, 0.2, 0.2)), paint("dark", rect(-0.16, 0.02, 1, 0.1))]


def rocket(v: int) -> list[Layer]:
    body = smooth(0, -1, 0.3, -0.6, 0.4, -0.1, 0.28, 0.5, 0, 0.54, -0.28, 0.5, -0.4, -0.1, -0.3, -0.6)
    fin = smooth(0.26, 0.0, 0.68, 0.4, 0.74, 0.82, 0.22, 0.52, steps=4)
    flame = smooth(-0.18, 0.5, 0.18, 0.5, 0.16, 0.75, 0, 1.0, -0.16, 0.75)
    layers = [solid("flame", flame), solid("dark", fin), solid("dark", mirror(fin)), solid("main", body)]
    if v == 0:
        layers += [paint("dark", poly(-0.29, -0.62, 0, -1.02, 0.29, -0.62))]
    return [*layers, paint("paper", ellipse(0, -0.2, 0.2, 0.2)), paint("glass", ellipse(0, -0.2, 0.14, 0.14))]


def umbrella(v: int) -> list[Layer]:
    edge = [ellipse(x, 0.12, 0.25, 0.16, 180, 360, 9)[::-1] for x in (0.75, 0.25, -0.25, -0.75)]
    dome = np.concatenate([ellipse(0, 0.12, 1, 0.95, 180, 360), *edge])
    ribs = [poly(0, -0.83, x, 0.12, x + 0.25, -0.02, x + 0.5, 0.12) for x in (-0.5, 0.5)]
    hook = line(0.11, 0, -0.9, 0, 0.2, 0, 0.75, 0.06, 0.93, 0.2, 1.0, 0.34, 0.93, 0.38, 0.78)
    return [solid("wood", hook), solid("main", dome),
            *[paint("light" if v == 0 else "dark", r) for r in ribs]]
