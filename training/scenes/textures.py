"""Paint stuff: grey textures that repeat without a seam, and the colour ramps that make them grass or water.

A texture tile stands for an area of two short sides of the image; level 0 is 256 pixels wide, each further
level twice as wide, so that small and large images are sampled at about their own resolution.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

LEVELS = 3
_GREY = (0, 96, 168, 255)  # the grey levels that the four colours of a ramp stand for


def _noise(size: int, cells_x: int, cells_y: int, seed: int) -> np.ndarray:
    """Return smooth periodic noise, (size, size) float32 about in [-1, 1], with that many cells per side."""
    cells_x, cells_y = min(cells_x, size), min(cells_y, size)
    grid = np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, (cells_y, cells_x)).astype(np.float32)
    grid = np.pad(grid, 2, mode="wrap")
    column = (np.arange(size, dtype=np.float32) + 0.5) * cells_x / size + 1.5
    row = (np.arange(size, dtype=np.float32) + 0.5) * cells_y / size + 1.5
    grid_x, grid_y = np.meshgrid(column, row)
    return cv2.remap(grid, grid_x, grid_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _clouds(size: int, cells: int, octaves: int, seed: int, flat: float = 1.0) -> np.ndarray:
    """Add octaves of noise; flat > 1 makes the cells wider than high."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        total += _noise(size, int(cells * 2**octave), int(cells * flat * 2**octave),
                        seed + octave) * 0.55**octave
    return total


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return x, y


def _boards(size: int, rows: int, per_row: int, seam: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay offset rows of boards or bricks; return each one's tone in [-1, 1] and where the seams are."""
    x, y = _grid(size)
    row = np.floor(y * rows).astype(int) % rows
    shifted = (x + 0.5 / per_row * (row % 2)) % 1
    column = np.floor(shifted * per_row).astype(int)
    tone = np.random.Generator(np.random.PCG64(seed)).uniform(-1, 1, (rows, per_row))[row, column]
    edge_y = np.abs((y * rows) % 1 - 0.5) > 0.5 - seam * rows / 2
    edge_x = np.abs((shifted * per_row) % 1 - 0.5) > 0.5 - seam * per_row / 2
    return tone.astype(np.float32), edge_x | edge_y


def _sky(size: int, v: int) -> np.ndarray:
    clouds = _clouds(size, 4, 4, 11 * v, flat=2.2)
    return 105 + 130 * np.clip(clouds * (0.5, 0.9, 0.2)[v] - 0.12, 0, 1)


def _mountain(size: int, v: int) -> np.ndarray:
    ridges = 1 - np.abs(_clouds(size, 10, 4, 31 + v, flat=0.6))
    return 20 + 150 * ridges**2 + 25 * _noise(size, 60, 40, 37 + v)


def _wall(size: int, v: int) -> np.ndarray:
    if v == 0:
        return 125 + 20 * _clouds(size, 6, 2, 41) + 12 * _noise(size, 128, 128, 43)
    if v == 1:
        tone, seam = _boards(size, 30, 13, 0.006, 45)
        return np.where(seam, 225, 95 + 38 * tone + 14 * _noise(size, 128, 128, 46))
    x, _ = _grid(size)
    return np.where((x * 20) % 1 < 0.5, 165, 95) + 10 * _noise(size, 96, 96, 47)


def _curtain(size: int, v: int) -> np.ndarray:
    x, _ = _grid(size)
    sway = 0.006 * _noise(size, 4, 3, 51 + v)
    phase = 2 * np.pi * ((14, 20, 10)[v] * (x + sway))
    return 118 + 85 * np.sin(phase) + 30 * np.sin(2 * phase + 1) + 8 * _noise(size, 200, 20, 53)


def _grass(size: int, v: int) -> np.ndarray:
    blades = _noise(size, (200, 128, 240)[v], (52, 36, 64)[v], 61 + v)
    return 108 + 78 * blades + 26 * _clouds(size, 7, 2, 65 + v)


def _sand(size: int, v: int) -> np.ndarray:
    _, y = _grid(size)
    bend = _clouds(size, 4, 2, 71 + v)
    ripples = np.sin(2 * np.pi * (18 * y + 0.55 * bend)) if v else bend
    return 128 + (22 * ripples) + 38 * _noise(size, 256, 256, 75 + v) + 14 * _noise(size, 100, 100, 76)


def _water(size: int, v: int) -> np.ndarray:
    waves = _noise(size, 16, (56, 40, 72)[v], 81 + v) + 0.5 * _noise(size, 36, 120, 84 + v)
    return 78 + 52 * waves + 175 * np.clip(waves - 0.55, 0, 1) ** 0.8


def _floor(size: int, v: int) -> np.ndarray:
    if v == 2:
        x, y = _grid(size)
        checker = (np.floor(x * 14) + np.floor(y * 14)) % 2
        return np.where(checker > 0, 170, 80) + 8 * _clouds(size, 12, 2, 91)
    tone, seam = _boards(size, (18, 26)[v], 3, 0.005, 93 + v)
    grain = _noise(size, 14, 220, 95 + v)
    return np.where(seam, 0, 128 + 42 * tone + 22 * grain).T


def _snow(size: int, v: int) -> np.ndarray:
    drifts = _clouds(size, 5, 2, 101 + v, flat=1.8)
    sparkle = np.clip(_noise(size, 150, 150, 105 + v) - 0.75, 0, 1)
    return 104 + 66 * drifts + 12 * _noise(size, 90, 60, 108 + v) + 300 * sparkle


def _road(size: int, v: int) -> np.ndarray:
    x, y = _grid(size)
    tar = 84 + 42 * _noise(size, 200, 200, 111 + v) + 14 * _clouds(size, 6, 2, 113)
    if v == 0:
        return tar
    lane = (np.abs((x * 2) % 1 - 0.5) < 0.035) & ((y * 6) % 1 < 0.6)
    edge = np.abs((x * 2 + 0.5) % 1 - 0.5) < 0.02
    return np.where(lane | (edge if v == 2 else False), 248, tar)


_PAINT = {
    "sky": _sky, "mountain": _mountain, "wall": _wall, "curtain": _curtain, "grass": _grass, "sand": _sand,
    "water": _water, "floor": _floor, "snow": _snow, "road": _road,
}
VARIANTS = 3


@cache
def texture(stuff: str, variant: int, level: int) -> np.ndarray:
    """Return the grey texture of stuff, (256 * 2**level,) * 2 uint8, periodic in both directions."""
    return np.clip(_PAINT[stuff](256 << level, variant % VARIANTS), 0, 255).astype(np.uint8)


# stuff -> its palettes; a palette is the four colours of the ramp, from the darkest grey level up
_PALETTES: dict[str, tuple[tuple[tuple[int, int, int], ...], ...]] = {
    "sky": (
        ((66, 126, 206), (112, 172, 232), (176, 212, 242), (250, 252, 255)),
        ((104, 158, 214), (152, 196, 230), (204, 224, 238), (252, 252, 250)),
        ((128, 120, 186), (226, 166, 160), (250, 204, 160), (255, 240, 214)),
        ((140, 156, 178), (176, 190, 204), (208, 216, 224), (240, 242, 244)),
    ),
    "mountain": (
        ((48, 50, 66), (84, 88, 108), (128, 132, 150), (232, 236, 244)),
        ((66, 58, 58), (108, 96, 94), (150, 138, 132), (214, 206, 200)),
        ((44, 62, 64), (76, 98, 98), (118, 138, 132), (206, 216, 208)),
    ),
    "wall": (
        ((176, 160, 130), (214, 200, 170), (230, 218, 192), (242, 234, 216)),
        ((130, 152, 150), (168, 190, 186), (190, 208, 204), (220, 232, 228)),
        ((166, 138, 142), (204, 178, 180), (220, 198, 198), (236, 222, 220)),
        ((118, 66, 54), (158, 92, 76), (178, 116, 98), (212, 204, 192)),
        ((112, 112, 116), (146, 146, 150), (170, 170, 172), (208, 206, 204)),
        ((150, 128, 96), (184, 160, 124), (200, 180, 146), (226, 214, 194)),
    ),
    "curtain": (
        ((70, 10, 30), (124, 24, 50), (156, 44, 70), (196, 90, 110)),
        ((20, 28, 74), (40, 54, 118), (64, 82, 150), (116, 134, 190)),
        ((10, 58, 52), (24, 96, 84), (44, 126, 110), (100, 172, 154)),
        ((56, 28, 74), (94, 54, 116), (122, 80, 144), (168, 130, 186)),
        ((122, 88, 24), (172, 130, 48), (198, 158, 74), (226, 198, 128)),
    ),
    "grass": (
        ((26, 78, 26), (62, 128, 42), (96, 162, 58), (160, 208, 96)),
        ((34, 92, 44), (78, 148, 66), (112, 180, 84), (172, 220, 120)),
        ((78, 88, 34), (122, 134, 52), (156, 164, 74), (204, 204, 116)),
    ),
    "sand": (
        ((180, 140, 88), (212, 176, 120), (228, 196, 142), (248, 228, 184)),
        ((190, 156, 112), (222, 194, 148), (236, 212, 170), (252, 238, 206)),
        ((172, 122, 76), (206, 152, 100), (222, 174, 122), (244, 208, 166)),
    ),
    "water": (
        ((14, 52, 104), (30, 96, 154), (66, 140, 192), (206, 236, 248)),
        ((8, 74, 86), (22, 122, 134), (64, 166, 170), (204, 242, 236)),
        ((34, 66, 92), (62, 102, 132), (100, 142, 168), (214, 230, 238)),
    ),
    "floor": (
        ((74, 48, 28), (150, 102, 60), (182, 132, 84), (214, 170, 122)),
        ((52, 34, 26), (100, 64, 44), (128, 86, 60), (166, 122, 92)),
        ((108, 90, 70), (188, 164, 132), (208, 188, 158), (230, 214, 190)),
        ((80, 84, 92), (136, 142, 152), (206, 210, 216), (232, 234, 238)),
    ),
    "snow": (
        ((172, 192, 222), (214, 226, 242), (236, 242, 249), (255, 255, 255)),
        ((184, 190, 210), (218, 222, 234), (238, 240, 246), (255, 255, 255)),
    ),
    "road": (
        ((40, 42, 48), (76, 78, 84), (112, 114, 118), (238, 234, 214)),
        ((56, 54, 54), (94, 92, 92), (128, 126, 124), (244, 214, 110)),
    ),
}


def ramp(stuff: str, u: np.ndarray) -> np.ndarray:
    """Return a shifted palette of stuff, (256, 1, 3) uint8; u holds five random numbers in [0, 1)."""
    palettes = _PALETTES[stuff]
    colors = np.array(palettes[int(u[0] * len(palettes))], np.float32)
    colors = (colors + (u[1:4] * 2 - 1) * 8) * (0.92 + 0.16 * u[4])
    level = np.arange(256)
    return np.clip(np.stack([np.interp(level, _GREY, colors[:, c]) for c in range(3)], 1), 0,
                   255).astype(np.uint8)[:, None]
