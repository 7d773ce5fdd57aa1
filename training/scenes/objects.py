"""Draw one coloured object: its look is chosen once, its pose may change from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from training.scenes.shapes import VARIANTS, shape
from training.scenes.vocabulary import COLORS

_SHIFT = 4  # fractional bits of polygon coordinates
_ACCENTS: dict[str, tuple[int, int, int]] = {
    "wood": (126, 88, 56), "leaf": (72, 140, 60), "beak": (236, 158, 52), "ink": (30, 30, 36),
    "white": (250, 250, 250), "glass": (168, 208, 230), "paper": (240, 232, 212), "steel": (190, 194, 200),
    "lamp": (255, 238, 150), "coffee": (74, 48, 36), "pollen": (238, 186, 52), "flame": (250, 160, 40),
}
FREE_ROTATION = frozenset(
    {"arrow", "ball", "cross", "cube", "key", "leaf", "moon", "ring", "star", "triangle"}
)
_MAX_TILT = 32.0  # degrees, for things with an upright side


@dataclass(frozen=True)
class Appearance:
    """Hold what stays the same about an object while it moves."""

    noun: str
    color: str
    variant: int
    mirrored: bool
    stretch: float  # width over height, multiplied onto the shape's own
    jitter: tuple[float, float, float]  # added to the colour, RGB units
    texture: int  # index into the fill patterns
    texture_at: tuple[int, int]
    light: int  # index into the light maps
    outline: float  # darkness of the outline, 0 is none
    shadow: float  # darkness of the drop shadow, 0 is none


def draw_look(rng: np.random.Generator, color: str, noun: str) -> Appearance:
    """Choose a look at random."""
    u = rng.random(12)
    jitter = (u[:3] * 2 - 1) * 9 + (u[3] * 2 - 1) * 10
    texture = 0 if u[4] < 0.4 else 1 + int(u[5] * (TEXTURES - 1))
    return Appearance(
        noun=noun,
        color=color,
        variant=int(u[6] * VARIANTS),
        mirrored=bool(u[7] < 0.5),
        stretch=float(2 ** ((u[8] * 2 - 1) * 0.26)),
        jitter=tuple(jitter.tolist()),
        texture=texture,
        texture_at=(int(u[9] * 64), int(u[10] * 64)),
        light=int(u[11] * LIGHTS),
        outline=float(0.25 + 0.6 * u[5]) if u[3] < 0.85 else 0.0,
        shadow=float(0.2 + 0.3 * u[9]) if u[10] < 0.7 else 0.0,
    )


def draw_angle(rng: np.random.Generator, noun: str) -> float:
    """Choose a rotation in degrees: any for things without an upright side, else a tilt."""
    u = rng.random()
    return float(u * 360) if noun in FREE_ROTATION else float((u * 2 - 1) * _MAX_TILT)


TEXTURES = 9
LIGHTS = 8


@cache
def _texture(index: int) -> np.ndarray:
    """Return a fill pattern, (256, 256) uint8, 128 is neutral; an object's side is about 64 of its pixels."""
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    if index == 0:
        pattern = np.zeros_like(x)
    elif index == 1:
        pattern = np.sign(np.sin((x + y) * np.pi / 8))
    elif index == 2:
        pattern = np.sign(np.sin(y * np.pi / 8))
    elif index == 3:
        pattern = np.sign(np.sin(x * np.pi / 8))
    elif index == 4:
        pattern = np.where(np.hypot((x + 8 * (y // 16 % 2)) % 16 - 8, y % 16 - 8) < 4.6, 1.0, -0.35)
    elif index == 5:
        pattern = np.sign(np.sin(x * np.pi / 10) * np.sin(y * np.pi / 10))
    elif index == 6:
        pattern = np.random.Generator(np.random.PCG64(6)).normal(0, 0.6, x.shape)
    elif index == 7:
        coarse = np.random.Generator(np.random.PCG64(7)).normal(0, 1, (32, 32)).astype(np.float32)
        pattern = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)
    else:
        pattern = np.where(np.minimum(x % 16, y % 16) < 3, 1.0, -0.3)
    return np.clip(128 + 100 * pattern, 0, 255).astype(np.uint8)


@cache
def _light(index: int) -> np.ndarray:
    """Return a light map, (64, 64, 3) uint8 with 128 as unchanged, lit from above in varying directions."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j].astype(np.float32)
    angle = np.radians(-150 + 120 * (index % 4) / 3)
    if index < 4:
        light = 0.13 * (x * np.cos(angle) + y * np.sin(angle))
    else:
        light = 0.15 - 0.26 * np.minimum(np.hypot(x - 0.4 * np.cos(angle), y - 0.4 * np.sin(angle)),
                                         1.2) ** 1.5
    return np.repeat(np.clip(128 * (1 + light), 0, 255).astype(np.uint8)[..., None], 3, 2)


def _tones(look: Appearance) -> dict[str, tuple[float, float, float]]:
    """Return the RGB colours of an object's tones; they stay nearer to its colour than to any other."""
    main = np.clip(np.array(COLORS[look.color]) + look.jitter, 0, 255)
    if look.color == "black":
        dark, light = main * 0.45, main + 48
    elif look.color == "white":
        main = np.clip(main, 228, 255)
        dark, light = main * 0.86, main * 0.93
    else:
        dark = main * (0.8 if look.color in ("yellow", "orange") else 0.72)
        light = main + 0.34 * (255 - main)
    tones = {"main": main, "dark": dark, "light": light}
    tones["spot"] = main * 0.8 if look.color == "white" else np.array((246.0, 244.0, 236.0))
    tones["band"] = np.array((60.0, 60.0, 68.0)) if look.color != "black" else np.array((170.0, 170.0, 176.0))
    return {name: tuple(np.clip(tone, 0, 255).tolist()) for name, tone in tones.items()} | _ACCENTS


def _ramp(tones: dict[str, tuple[float, float, float]]) -> np.ndarray:
    """Return the colours that a fill pattern's grey levels stand for, (256, 1, 3) uint8."""
    dark, main, light = (np.array(tones[name]) for name in ("dark", "main", "light"))
    stops = [0.55 * dark + 0.45 * main, main, 0.45 * main + 0.55 * light]
    ramp = np.stack([np.interp(np.arange(256), (28, 128, 228), [s[c] for s in stops]) for c in range(3)], 1)
    return ramp.astype(np.uint8)[:, None, :]


@dataclass(frozen=True)
class Sprite:
    """Hold a drawn object: a square tile, its opacity, and where its upper left corner lies."""

    color: np.ndarray  # (S, S, 3) uint8
    alpha: np.ndarray  # (S, S) uint8
    x: int
    y: int
    area: int  # pixels of the whole silhouette

    def windows(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the part of a (height, width) image under the tile, and the part of the tile inside it."""
        height, width = size
        top, bottom = max(0, self.y), max(0, min(height, self.y + len(self.alpha)))
        left, right = max(0, self.x), max(0, min(width, self.x + len(self.alpha)))
        tile = slice(top - self.y, bottom - self.y), slice(left - self.x, right - self.x)
        return (slice(top, bottom), slice(left, right)), tile

    def inside(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Return the part of a (height, width) image under the tile, and the silhouette in it."""
        window, tile = self.windows(size)
        return window, self.alpha[tile] >= 128


def draw_object(look: Appearance, x: float, y: float, side: float, angle: float) -> Sprite:
    """Draw an object centred at (x, y) with its larger side in pixels, turned by an angle in degrees."""
    outline = shape(look.noun, look.variant)
    radius = int(np.ceil(side * 0.5 * 1.43)) + 2
    size = 2 * radius
    left, top = int(np.floor(x)) - radius, int(np.floor(y)) - radius
    grow = np.sqrt(look.stretch)
    width, height = min(1.0, grow), min(1.0, 1 / grow)
    cos, sin = np.cos(np.radians(angle)) * side / 2, np.sin(np.radians(angle)) * side / 2
    flip = -1 if look.mirrored else 1
    matrix = np.array([[cos * width * flip, sin * width * flip], [-sin * height, cos * height]], np.float32)
    points = outline.points @ matrix + np.float32((x - left - 0.5, y - top - 0.5))
    points = np.round(points * (1 << _SHIFT)).astype(np.int32)

    tones = _tones(look)
    alpha = np.zeros((size, size), np.uint8)
    tile = cv2.applyColorMap(_pattern(look, size, side), _ramp(tones))
    painted = False
    for slices, tone, solid in outline.layers:
        contours = [points[s] for s in slices]
        if solid:
            cv2.fillPoly(alpha, contours, 255, cv2.LINE_AA, _SHIFT)
        if tone != "main" or painted:
            cv2.fillPoly(tile, contours, tones[tone], cv2.LINE_AA, _SHIFT)
            painted = True
    light = cv2.resize(_light(look.light), (size, size), interpolation=cv2.INTER_LINEAR)
    tile = cv2.multiply(tile, light, scale=1 / 128)
    if look.outline:
        _outline(tile, alpha, look, side)
    return Sprite(tile, alpha, left, top, int(np.count_nonzero(alpha >= 128)))


def _pattern(look: Appearance, size: int, side: float) -> np.ndarray:
    pattern = _texture(look.texture)
    if look.texture == 0:
        return pattern[:1, :1].repeat(size, 0).repeat(size, 1)
    row, column = look.texture_at
    reach = min(int(size / side * 64), 256 - 64)
    part = pattern[row : row + reach, column : column + reach]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)


def _outline(tile: np.ndarray, alpha: np.ndarray, look: Appearance, side: float) -> None:
    """Darken the rim of the silhouette in place (brighten it on black objects)."""
    kernel = 1 + 2 * max(1, round(side / 60))
    rim = cv2.subtract(alpha, cv2.erode(alpha, np.ones((kernel, kernel), np.uint8)))
    weight = cv2.multiply(rim, 1.0, scale=look.outline, dtype=cv2.CV_32F) * np.float32(1 / 255)
    target = np.full_like(tile, 105 if look.color == "black" else 25)
    cv2.blendLinear(target, tile, weight, 1 - weight, tile)


def paste(image: np.ndarray, sprite: Sprite) -> None:
    """Lay a sprite over an image (H, W, 3) uint8 in place."""
    (rows, columns), (tile_rows, tile_columns) = sprite.windows(image.shape[:2])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    weight = cv2.multiply(sprite.alpha[tile_rows, tile_columns], 1.0, scale=1 / 255, dtype=cv2.CV_32F)
    under = np.ascontiguousarray(image[rows, columns])
    image[rows, columns] = cv2.blendLinear(
        np.ascontiguousarray(sprite.color[tile_rows, tile_columns]), under, weight, 1 - weight
    )


def shade_ground(image: np.ndarray, sprite: Sprite, look: Appearance) -> None:
    """Darken an image (H, W, 3) uint8 in place where the soft shadow of a sprite falls."""
    if not look.shadow:
        return
    size = len(sprite.alpha)
    step = max(1, size // 24)
    blur = 2 * max(1, size // 24) + 1
    soft = cv2.blur(sprite.alpha, (blur, blur), borderType=cv2.BORDER_CONSTANT)
    aside = step if look.light % 4 < 2 else -step
    shadow = Sprite(sprite.color, soft, sprite.x + aside, sprite.y + step, sprite.area)
    (rows, columns), (tile_rows, tile_columns) = shadow.windows(image.shape[:2])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    keep = cv2.addWeighted(soft[tile_rows, tile_columns], -look.shadow, soft[tile_rows, tile_columns], 0, 255)
    under = np.ascontiguousarray(image[rows, columns])
    image[rows, columns] = cv2.multiply(under, cv2.merge([keep] * 3), scale=1 / 255)
