"""Build the outlines of things from points: ellipses, smooth curves, widened lines.

Coordinates are x right, y down; a shape's larger extent is [-1, 1]. A shape is a stack of layers painted in
order. A solid layer belongs to the silhouette; the others only paint on it. A layer holds contours filled
even-odd (an inner contour is a hole) and a tone that becomes a colour when the object is drawn: main, dark,
light (tones of the object's own colour) or a fixed accent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Contour = np.ndarray  # (N, 2) float
Layer = tuple[list[Contour], str, bool]  # contours, tone, solid


@dataclass(frozen=True)
class Shape:
    """Hold a noun's polygons: all points in one array, and for each layer its slices, tone and solidity."""

    points: np.ndarray  # (N, 2) float32
    layers: tuple[tuple[tuple[slice, ...], str, bool], ...]


def ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360,
            n: int = 36) -> Contour:
    angle = np.radians(np.linspace(start, end, n, endpoint=end - start < 360))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)


def poly(*xy: float) -> Contour:
    return np.array(xy, float).reshape(-1, 2)


def rect(x0: float, y0: float, x1: float, y1: float) -> Contour:
    return poly(x0, y0, x1, y0, x1, y1, x0, y1)


def smooth(*xy: float, steps: int = 7) -> Contour:
    """Pass a closed Catmull-Rom curve through the points."""
    p = poly(*xy)
    a, b, c, d = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (a, b, c, d))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, 2)


def line(width: float, *xy: float) -> Contour:
    """Widen an open line of points into a polygon."""
    p = poly(*xy)
    along = np.gradient(p, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.stack([-along[:, 1], along[:, 0]], 1) * width / 2
    return np.concatenate([p + side, (p - side)[::-1]])


def turn(contour: Contour, degrees: float) -> Contour:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return contour @ np.array([[c, s], [-s, c]])


def mirror(contour: Contour) -> Contour:
    return contour * (-1, 1)


def spikes(n: int, inner: float) -> Contour:
    angle = np.arange(2 * n) * np.pi / n - np.pi / 2
    radius = np.where(np.arange(2 * n) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def solid(tone: str, *contours: Contour) -> Layer:
    return list(contours), tone, True


def paint(tone: str, *contours: Contour) -> Layer:
    return list(contours), tone, False


def stack(layers: Sequence[Layer]) -> Shape:
    """Centre the layers and scale them so that the silhouette's larger half extent is 1."""
    outline = np.concatenate([c for contours, _, is_solid in layers if is_solid for c in contours])
    low, high = outline.min(0), outline.max(0)
    points, slices, at = [], [], 0
    for contours, tone, is_solid in layers:
        parts = []
        for contour in contours:
            points.append(contour)
            parts.append(slice(at, at + len(contour)))
            at += len(contour)
        slices.append((tuple(parts), tone, is_solid))
    scaled = (np.concatenate(points) - (low + high) / 2) / ((high - low).max() / 2)
    return Shape(scaled.astype(np.float32), tuple(slices))
