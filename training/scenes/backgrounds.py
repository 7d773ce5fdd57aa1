"""Compose a background: one to four regions of stuff, each pixel in exactly one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.scenes.textures import LEVELS, VARIANTS, ramp, texture

_GROUNDS = ("grass", "sand", "water", "snow", "road", "floor")
_OUTDOOR_GROUNDS = ("grass", "sand", "water", "snow", "road")
_UPRIGHT = frozenset({"sky", "mountain", "wall",
                      "curtain"})  # seen face on; all other stuff lies in perspective


@dataclass(frozen=True)
class Background:
    """Hold the empty image (H, W, 3) uint8, its index map (H, W) uint8 and the stuff by index."""

    image: np.ndarray
    index_map: np.ndarray
    stuff: tuple[str, ...]
    horizon: float  # fraction of the height above which there is no ground; 1 without any ground


@dataclass(frozen=True)
class _Region:
    stuff: str
    edge: np.ndarray | None  # (W,) row at which it starts, None for the whole image
    left: float = -1.0  # from 0: it covers the columns right of this fraction instead


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.random() * len(choices))]


def _edge(rng: np.random.Generator, at: float, height: int, width: int) -> np.ndarray:
    """Draw a horizon around a fraction of the height: level, tilted or wavy; (W,) rows."""
    u = rng.random(5)
    x = np.linspace(0, 1, width)
    edge = np.full(width, at)
    if u[0] < 0.4:
        edge += (u[1] * 2 - 1) * 0.1 * (x - 0.5)
    elif u[0] < 0.75:
        edge += (0.01 + 0.035 * u[1]) * np.sin(2 * np.pi * ((0.6 + 2 * u[2]) * x + u[3]))
    return edge * height


def _peaks(rng: np.random.Generator, at: float, height: int, width: int) -> np.ndarray:
    """Draw a mountain ridge whose feet lie at a fraction of the height; (W,) rows."""
    n = 4 + int(rng.random() * 4)
    u = rng.random((2, n + 2))
    x = (np.arange(n + 2) - 0.5 + 0.5 * u[0]) / n
    rise = np.where(np.arange(n + 2) % 2, 0.16 + 0.16 * u[1], 0.05 + 0.05 * u[1])
    jag = 0.008 * np.sin(np.linspace(0, 40 + 30 * u[0, 0], width))
    return (at - np.interp(np.linspace(0, 1, width), x, rise) + jag) * height


def _layout(rng: np.random.Generator, height: int, width: int) -> tuple[list[_Region], float]:
    """Choose regions from back to front and the height of the horizon."""
    kind, at = rng.random(), 0.3 + 0.32 * rng.random()
    edge = _edge(rng, at, height, width)
    if kind < 0.12:
        stuff = _pick(rng, (*_GROUNDS, "wall", "curtain", "sky"))
        return [_Region(stuff, None)], 1.0 if stuff in _UPRIGHT else 0.0
    if kind < 0.42:
        wall, ground = _pick(rng, ("wall", "curtain")), "floor" if rng.random() < 0.65 else _pick(rng,
                                                                                                  _GROUNDS)
        at += 0.08
        regions = [_Region(wall, None)]
        if rng.random() < 0.4:
            regions.append(_Region("wall" if wall == "curtain" else "curtain", None,
                                   0.3 + 0.4 * rng.random()))
        return [*regions, _Region(ground, edge + 0.08 * height)], at
    regions = [_Region("sky", None)]
    if rng.random() < 0.4:
        at += 0.06
        edge = edge + 0.06 * height
        regions.append(_Region("mountain", _peaks(rng, at, height, width)))
    first = _pick(rng, _OUTDOOR_GROUNDS)
    regions.append(_Region(first, edge))
    if rng.random() < 0.45:
        second = _pick(rng, tuple(s for s in _GROUNDS if s != first))
        middle = at + (0.38 + 0.24 * rng.random()) * (1 - at)
        regions.append(_Region(second, np.maximum(_edge(rng, middle, height, width), edge + 0.1 * height)))
    return regions, at


def _paint(rng: np.random.Generator, stuff: str, height: int, width: int, top: int) -> np.ndarray:
    """Paint stuff over the rows from top to the image's bottom, (height - top, W, 3) uint8."""
    u = rng.random(12)
    short = min(height, width)
    level = int(np.clip(round(np.log2(short / 128)), 0, LEVELS - 1))
    variant = 1 if stuff == "wall" and u[0] >= 0.5 and u[0] < 0.667 else int(u[5] * VARIANTS)
    grey = texture(stuff, variant, level)
    scale = (128 << level) / short * (0.8 + 0.5 * u[6])  # texture pixels per image pixel
    rows = height - top
    if stuff in _UPRIGHT:
        matrix = np.array([[scale, 0, u[7] * len(grey)], [0, scale, u[8] * len(grey)], [0, 0, 1]])
    else:
        far = 1.4 + 1.3 * u[9]  # how many times smaller things look at the top than at the bottom
        slope = (1 - 1 / far) / rows
        centre = width * (0.3 + 0.4 * u[10])
        x0, y0 = u[7] * len(grey), u[8] * len(grey)
        if stuff == "road":
            x0 = (0.25 + 0.5 * (u[7] > 0.5)) * len(grey)
        matrix = np.array([[scale, 0, -scale * centre], [0, scale, -scale * rows], [0, slope, 1 / far]])
        matrix = np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]]) @ matrix
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    grey = cv2.warpPerspective(grey, matrix, (width, rows), flags=flags, borderMode=cv2.BORDER_WRAP)
    start, end = (-55, 60) if stuff == "sky" else ((u[11] - 0.5) * 50, (0.5 - u[11]) * 50)
    fall = np.linspace(start, end, rows, dtype=np.float32)[:, None]
    grey = cv2.add(grey, np.broadcast_to(fall, grey.shape).copy(), dtype=cv2.CV_8U)
    return cv2.applyColorMap(grey, ramp(stuff, u[:5]))


def draw_background(rng: np.random.Generator, height: int, width: int) -> Background:
    """Draw an empty scene at random."""
    regions, horizon = _layout(rng, height, width)
    image = np.empty((height, width, 3), np.uint8)
    index_map = np.zeros((height, width), np.uint8)
    row = np.arange(height)[:, None]
    for index, region in enumerate(regions):
        if region.edge is None and region.left < 0:
            image[:] = _paint(rng, region.stuff, height, width, 0)
            continue
        if region.edge is None:
            column = int(region.left * width)
            image[:, column:] = _paint(rng, region.stuff, height, width, 0)[:, column:]
            index_map[:, column:] = index
            continue
        top = int(np.clip(np.floor(region.edge.min()), 0, height - 1))
        inside = row[top:] >= region.edge[None]
        cv2.copyTo(_paint(rng, region.stuff, height, width, top), inside.astype(np.uint8), image[top:])
        index_map[top:][inside] = index
    return Background(image, index_map, tuple(r.stuff for r in regions), horizon)
