"""No network at all: stripes instead of masks, at once or after a given time, to measure what surrounds an engine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from synseg_model.config import EncoderConfig, ModelConfig

WIDTH = 16  # of a text embedding
SIDE = 64  # pixels of a map


class NullEngine:
    """Show label i of K in the i-th of K equal vertical stripes of every image, whatever is on it.

    Calls take `seconds` and no processor time. Chosen by the engine name "null", or "null:20" for 20 ms.
    """

    name, device = "null", "cpu"
    config = ModelConfig(name="null", encoder=EncoderConfig(model="none"))
    fingerprint = "0" * 64
    independent_labels = False

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    @classmethod
    def from_name(cls, name: str) -> NullEngine:
        """Make the engine that "null" or "null:MILLISECONDS" names; raise ValueError for another time."""
        try:
            milliseconds = float(name.partition(":")[2] or 0)
        except ValueError:
            milliseconds = -1.0
        if not 0 <= milliseconds <= 60_000:
            raise ValueError(f"engine {name!r}: expected null or null:MILLISECONDS, such as null:20")
        return cls(milliseconds / 1e3)

    def count_tokens(self, text: str) -> int:
        return 2 + len(text.split())

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        digests = b"".join(hashlib.sha256(text.encode()).digest()[:WIDTH] for text in prompts)
        return np.frombuffer(digests, np.uint8).reshape(-1, WIDTH).astype(np.float32) + 1

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        if self.seconds:
            time.sleep(self.seconds)
        return [_stripes(len(text))] * len(frames)


@lru_cache(maxsize=4)
def _stripes(count: int) -> np.ndarray:
    """Draw the maps (count,h,w) float32, which frames share."""
    columns = max(SIDE, count)
    stripe = np.arange(columns) * count // columns
    maps = np.repeat((stripe == np.arange(count)[:, None]).astype(np.float32)[:, None], SIDE, axis=1)
    maps.flags.writeable = False
    return maps
