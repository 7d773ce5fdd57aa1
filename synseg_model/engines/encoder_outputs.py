"""What an exported image encoder returns, of both kinds of models: how to count, cut and halve it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from synseg_model.config import ModelConfig

Array = TypeVar("Array")  # an array, on a device too: only its shape is asked for


class ClipOutputs:
    """Of a ViT: class_features (L,B,D) and features (L,B,rows,columns,D)."""

    batch_axis = 1

    def count(self, encoded: Mapping[str, Array]) -> tuple[int, int]:
        """Return the frames, and the tokens of each that FiLM modulates, with a class token."""
        _, batch, rows, columns, _ = encoded["features"].shape
        return batch, 1 + rows * columns

    def row(self, encoded: Mapping[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
        """Cut one frame out of a batch."""
        return {name: np.take(array, [row], self.batch_axis) for name, array in encoded.items()}

    def halve(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Average all that has a place in the image in blocks of 2x2, smaller ones at odd ends."""
        return {**encoded, "features": average_pairs(encoded["features"], 2)}


class LevelOutputs(ClipOutputs):
    """Of a backbone: tokens (B,rows,columns,D), dense (B,rows,columns,C) and skips (B,S,h,w)."""

    batch_axis = 0

    def count(self, encoded: Mapping[str, Array]) -> tuple[int, int]:
        batch, rows, columns, _ = encoded["tokens"].shape
        return batch, rows * columns

    def halve(self, encoded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: average_pairs(array, 2 if name.startswith("skip") else 1) for name, array in encoded.items()}


def outputs_of(config: ModelConfig) -> ClipOutputs:
    """Choose what fits a model."""
    return LevelOutputs() if config.encoder.backbone else ClipOutputs()


def average_pairs(array: np.ndarray, axis: int) -> np.ndarray:
    """Average an array along two axes, `axis` and the next, in blocks of 2x2, smaller ones at odd ends."""
    for along in (axis, axis + 1):
        starts = np.arange(0, array.shape[along], 2)
        counts = np.minimum(2, array.shape[along] - starts).reshape(-1, *[1] * (array.ndim - along - 1))
        array = np.add.reduceat(array, starts, along) / counts.astype(np.float32)
    return array
