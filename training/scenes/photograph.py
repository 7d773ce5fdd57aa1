"""Photograph a finished drawing: mild blur, noise, exposure, colour cast and vignette."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

_NOISE_SIZE = 1024


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """Return normal noise around 128 with standard deviation 32, uint8; any window of it serves a frame."""
    rng = np.random.Generator(np.random.PCG64(5))
    return np.clip(128 + 32 * rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE, 3), np.float32), 0,
                   255).astype(np.uint8)


@lru_cache(maxsize=16)
def _vignette(height: int, width: int, strength: int) -> np.ndarray:
    """Return how bright each pixel stays, (H, W, 3) uint8 with 128 as unchanged; strength in eighths."""
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    fall = 1 - 0.036 * strength * (x**2 + y**2) / 2 * 1.2
    return np.repeat((128 * np.clip(fall, 0, 1)).astype(np.uint8)[..., None], 3, 2)


@dataclass(frozen=True)
class PhotographEffects:
    """Hold how one image or video is degraded."""

    blur: float  # standard deviation in pixels of a 128 pixel high image
    noise: float  # standard deviation in grey levels
    contrast: float
    brightness: float  # grey levels
    cast: tuple[float, float, float]  # added to red, green and blue
    vignette: int  # 0 to 6

    @classmethod
    def random(cls, rng: np.random.Generator) -> PhotographEffects:
        """Choose a camera at random."""
        u = rng.random(9)
        return cls(
            blur=0.0 if u[0] < 0.3 else float(0.2 + 0.3 * u[1]),
            noise=float(6 * u[2] ** 2),
            contrast=float(0.93 + 0.17 * u[3]),
            brightness=float((u[4] * 2 - 1) * 9 + 3),
            cast=tuple(((u[5:8] * 2 - 1) * 4).tolist()),
            vignette=int(u[8] * 7),
        )

    def take(self, image: np.ndarray, frame: int) -> np.ndarray:
        """Degrade an image (H, W, 3) uint8; frame chooses the noise. Returns a new image."""
        height, width = image.shape[:2]
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur * min(1.6, min(height, width) / 128))
        gain = self.noise / 32
        offset = 128 * (1 - self.contrast) + self.brightness - 128 * gain
        if gain and max(height, width) <= _NOISE_SIZE:
            row = frame * 7919 % (_NOISE_SIZE - height + 1)
            column = frame * 104729 % (_NOISE_SIZE - width + 1)
            noise = _noise_bank()[row : row + height, column : column + width]
            image = cv2.addWeighted(image, self.contrast, noise, gain, offset)
        else:
            image = cv2.convertScaleAbs(cv2.addWeighted(image, self.contrast, image, 0, offset + 128 * gain))
        image = cv2.add(image, np.array([*self.cast, 0.0]))
        if self.vignette:
            image = cv2.multiply(image, _vignette(height, width, self.vignette), scale=1 / 128)
        return image
