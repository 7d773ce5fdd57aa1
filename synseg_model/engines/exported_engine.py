"""What the engines of exported folders share: one encoding for each size of frames, labels decoded in passes."""

from __future__ import annotations

import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from synseg_model.config import ModelConfig
from synseg_model.engines.preprocess import by_size, resize_positions
from synseg_model.exported import POSITIONS, Export

Array = TypeVar("Array")  # an array on an engine's device

_KEPT_GRIDS = 16  # token grids whose position embeddings stay on the device; a camera has one


class ExportedEngine(ABC, Generic[Array]):
    """Run an exported folder's image encoder and decoder; how is the subclass's.

    Labels are decoded in passes that keep the decoder's working memory within `decoder_memory` bytes.
    most_frames, most_labels: what one run takes at most. _text: the folder's TextEncoder, which the subclass sets.
    """

    most_frames = most_labels = sys.maxsize

    def __init__(self, folder: str | Path, decoder_memory: int) -> None:
        self.folder = folder = Path(folder).expanduser()
        self.decoder_memory = decoder_memory
        self.config = ModelConfig.read(folder)
        self._export = Export.read(folder)
        self.fingerprint = self._export.fingerprint
        self._positions = np.load(io.BytesIO(self._export.read_file(folder, POSITIONS)), allow_pickle=False)
        self._positions_at: dict[tuple[int, int], Array] = {}

    def count_tokens(self, text: str) -> int:
        return self._text.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        return self._text.encode_text(prompts)

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        return by_size(frames, lambda batch: self._segment(batch, text), self.most_frames)

    @abstractmethod
    def _keep(self, array: np.ndarray) -> Array:
        """Copy an array to the device, to stay there."""

    @abstractmethod
    def _run_image_encoder(self, inputs: dict[str, np.ndarray | Array]) -> dict[str, Array]:
        """Run the graph; returns class_features (S,B,D) and features (S,B,h,w,D), which stay on the device."""

    @abstractmethod
    def _run_decoder(self, inputs: dict[str, np.ndarray | Array]) -> np.ndarray:
        """Run the graph; returns activations (B,K,H,W) float32 on the host, valid until the next run."""

    def _segment(self, frames: list[np.ndarray], text: np.ndarray) -> np.ndarray:
        """Encode frames of one size once and decode text embeddings (K,D); returns activations (B,K,H,W) float32."""
        patch = self._export.patch
        rows, columns = (side // patch for side in self.config.image.input_size(*frames[0].shape[:2], patch))
        encoded = self._run_image_encoder({"frames": np.stack(frames), "positions": self._positions_of(rows, columns)})
        per_label = len(frames) * self.config.decoder.bytes_per_label(1 + rows * columns, patch)
        most = min(self.most_labels, max(1, self.decoder_memory // per_label))
        maps = np.empty((len(frames), len(text), rows * patch, columns * patch), np.float32)
        for start in range(0, len(text), most):
            part = np.ascontiguousarray(text[start : start + most], np.float32)
            maps[:, start : start + most] = self._run_decoder({**encoded, "text": part})
        return maps

    def _positions_of(self, rows: int, columns: int) -> Array:
        """Return the position embeddings of a token grid, on the device; computed when a grid is first met."""
        if (rows, columns) not in self._positions_at:
            if len(self._positions_at) == _KEPT_GRIDS:
                self._positions_at.clear()
            self._positions_at[rows, columns] = self._keep(resize_positions(self._positions, rows, columns))
        return self._positions_at[rows, columns]
