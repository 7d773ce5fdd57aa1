"""What the engines of exported folders share: one encoding for each size of frames, labels decoded in passes."""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from synseg_model.config import ModelConfig
from synseg_model.engines.encoder_outputs import outputs_of
from synseg_model.engines.exported_batch import ExportedBatch
from synseg_model.engines.label_sizes import passes
from synseg_model.preprocess import by_size, remembered, resize_positions
from synseg_model.result import DeviceMaps
from synseg_model.vocabulary import Vocabulary
from synseg_model.weights.exported_folder import DECODER, IMAGE_ENCODER, POSITIONS, Export

Array = TypeVar("Array")  # an array on an engine's device

GPU_DECODER_MEMORY = 2 * 2**30  # bytes; a GPU is fast when it has much to do at once


class ExportedEngine(ABC, Generic[Array]):
    """Run an exported folder's graphs; how is the subclass's.

    Labels are decoded in passes that keep the decoder's working memory within `decoder_memory` bytes. As many more may
    hold the activations of a batch that stays on the device.
    keep_labels: decode only so many labels of a frame in full, as `TorchEngine` does; 0 for all.
    most_frames, most_labels: what one run takes at most.
    The subclass sets device, "cpu" or "cuda:N", and _text, the folder's TextEncoder.
    """

    device: str
    most_frames = most_labels = sys.maxsize

    def __init__(self, folder: str | Path, decoder_memory: int, keep_labels: int = 0) -> None:
        if keep_labels < 0:
            raise ValueError(f"keep_labels {keep_labels}: expected a number of labels, or 0 for all")
        self.keep_labels = keep_labels
        self.folder = folder = Path(folder).expanduser()
        self.decoder_memory = decoder_memory
        self.config = ModelConfig.read(folder)
        self._export = Export.read(folder)
        self._outputs = outputs_of(self.config)
        self.fingerprint = self._export.fingerprint
        self._positions = np.load(self._export.check_file(folder, POSITIONS), allow_pickle=False)
        self._positions_at: dict[tuple[int, int], Array] = {}
        self._canvases: dict[tuple[int, int, int], dict[str, Array]] = {}

    @property
    def independent_labels(self) -> bool:
        """Whether all labels are decoded in full."""
        return not self.keep_labels

    def count_tokens(self, text: str) -> int:
        return self._text.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        return self._text.encode_text(prompts)

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        with self.turn():
            return by_size(frames, lambda batch: self._segment(batch, text), self.most_frames)

    def device_maps(
        self, frames: Sequence[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None = None
    ) -> list[np.ndarray | DeviceMaps]:
        with self.turn():
            return by_size(frames, lambda batch: self._segment_there(batch, text), self.most_frames)

    def turn(self) -> contextlib.AbstractContextManager:
        """Enter the device, alone where it serves one thread at a time; all that follows is called inside."""
        return contextlib.nullcontext()

    @abstractmethod
    def run(self, graph: str, inputs: dict[str, np.ndarray | Array]) -> dict[str, Array]:
        """Run a graph, named by its file; outputs stay on the device, for as long as something refers to them."""

    @abstractmethod
    def keep(self, array: np.ndarray) -> Array:
        """Copy an array to the device, to stay there."""

    @abstractmethod
    def download(self, array: Array) -> np.ndarray:
        """Wait for an array and copy it to the host; the copy is valid until the next download."""

    @abstractmethod
    def part(self, array: Array, rows: slice, labels: slice) -> Array:
        """Name array[rows, labels] without copying: of several rows all labels; array: (B,K,h,w)."""

    def takes_batches(self, graph: str) -> bool:
        """Tell whether a graph takes several frames in one run: label maps and masks of older exports do not."""
        return False

    def _segment(self, frames: list[np.ndarray], text: np.ndarray) -> np.ndarray:
        """Encode frames of one size once and decode text embeddings (K,D); returns activations (B,K,h,w) float32."""
        if 0 < self.keep_labels < len(text):
            return self._segment_likely(frames, text)
        maps = np.empty((len(frames), len(text), *self._map_size(frames[0])), np.float32)
        start = 0
        for part in self._decode(self.encode(frames), text):
            found = self.download(part)[:, : len(text) - start]
            maps[:, start : start + found.shape[1]] = found
            start += found.shape[1]
        return maps

    def _segment_likely(self, frames: list[np.ndarray], text: np.ndarray) -> np.ndarray:
        """Decode for each frame only the labels that a coarse pass finds most active; those of the others are 0."""
        maps = np.zeros((len(frames), len(text), *self._map_size(frames[0])), np.float32)
        encoded = {name: self.download(array).copy() for name, array in self.encode(frames).items()}
        for row, own in enumerate(maps):
            one = self._outputs.row(encoded, row)
            coarse = self._outputs.halve(one)
            peaks = [self.download(part).max(axis=(2, 3))[0] for part in self._decode(coarse, text)]
            kept = np.argsort(-np.concatenate(peaks)[: len(text)], kind="stable")[: self.keep_labels]
            found = [self.download(part)[0].copy() for part in self._decode(one, text[kept])]
            own[kept] = np.concatenate(found)[: len(kept)]
        return maps

    def _segment_there(self, frames: list[np.ndarray], text: np.ndarray) -> Sequence[np.ndarray | DeviceMaps]:
        """Leave the activations on the device, or bring them to the host where they are too many."""
        height, width = self._map_size(frames[0])
        too_many = 4 * len(frames) * len(text) * height * width > self.decoder_memory
        if too_many or 0 < self.keep_labels < len(text):
            return self._segment(frames, text)
        passes = list(self._decode(self.encode(frames), text))
        return ExportedBatch(self, passes, frames[0].shape[:2], len(text)).frames()

    def encode(self, frames: list[np.ndarray]) -> dict[str, Array]:
        """Encode frames (H,W,3) uint8 of one size; returns what `synseg_model.engines.encoder_outputs` describes."""
        rows, columns = (side // self._export.patch for side in self._input_size(frames[0]))
        return self.run(IMAGE_ENCODER, {"frames": np.stack(frames), "positions": self._positions_of(rows, columns)})

    def _decode(self, encoded: Mapping[str, np.ndarray | Array], text: np.ndarray) -> Iterator[Array]:
        """Decode text embeddings (K,D) in passes of k: (B,k,h,w) float32 each.

        All passes have one size, for which libraries of a GPU prepare once. What the last one has beyond K repeats
        label K.
        """
        batch, tokens = self._outputs.count(encoded)
        per_label = batch * self.config.decoder.bytes_per_label(tokens, self._export.patch)
        most = min(self.most_labels, max(1, self.decoder_memory // per_label))
        count, size = passes(len(text), most, pad=self._pads)
        for start in range(0, count * size, size):
            part = np.ascontiguousarray(text[start : start + size], np.float32)
            if self._pads and len(part) < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            yield self.run(DECODER, {**encoded, "text": part})["activations"]

    @property
    def _pads(self) -> bool:
        """Whether passes are filled up to one size: a CPU gains nothing by that."""
        return self.device != "cpu"

    def _input_size(self, frame: np.ndarray) -> tuple[int, int]:
        return self.config.image.input_size(*frame.shape[:2], self._export.patch)

    def _map_size(self, frame: np.ndarray) -> tuple[int, int]:
        """Return rows and columns of a frame's activations."""
        return tuple(side // self.config.decoder.stride for side in self._input_size(frame))

    def canvas(self, frames: int, size: tuple[int, int]) -> dict[str, Array]:
        """Return what graphs take for frames of size (H,W): label maps before the first label, rows and columns."""

        def make() -> dict[str, Array]:
            largest = np.zeros((frames, *size), np.float32)
            rows, columns = (np.arange(side, dtype=np.int32) for side in size)
            label_map = np.zeros(largest.shape, np.int32)
            begin = {"label_map": label_map, "winning": largest - 1, "largest": largest}
            return {name: self.keep(array) for name, array in {**begin, "rows": rows, "columns": columns}.items()}

        return remembered(self._canvases, (frames, *size), make)

    def _positions_of(self, rows: int, columns: int) -> Array:
        """Return the position embeddings of a token grid, on the device; computed when a grid is first met."""
        grid = (rows, columns)
        return remembered(self._positions_at, grid, lambda: self.keep(resize_positions(self._positions, *grid)))
