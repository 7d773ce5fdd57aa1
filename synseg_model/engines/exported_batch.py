"""Activations that an exported folder's engine keeps on its device, and what Results ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from synseg_model.engines.device_batch import Array, DeviceBatch, labels_at_once
from synseg_model.vocabulary import Vocabulary
from synseg_model.weights.exported_folder import LABEL_MAP, MASKS


class GraphRunner(Protocol[Array]):
    """What a batch asks of the engine that made it; `ExportedEngine` describes each."""

    decoder_memory: int

    def turn(self) -> AbstractContextManager: ...

    def run(self, graph: str, inputs: dict[str, np.ndarray | Array]) -> dict[str, Array]: ...

    def keep(self, array: np.ndarray) -> Array: ...

    def download(self, array: Array) -> np.ndarray: ...

    def part(self, array: Array, row: int, start: int, stop: int) -> Array: ...

    def canvas(self, size: tuple[int, int]) -> dict[str, Array]: ...


class ExportedBatch(DeviceBatch[Array]):
    """Keep the activations of frames of one size (H,W), (B,k,h,w) for each pass of the decoder.

    labels: how many there are, where the last pass has more.
    The graphs take one frame at a time, and so many labels that planes of the frame's size fit into the engine's
    `decoder_memory`.
    """

    def __init__(
        self, engine: GraphRunner[Array], passes: Sequence[Array], size: tuple[int, int], labels: int | None = None
    ) -> None:
        batch, _, *plane = passes[0].shape
        super().__init__((batch, labels or sum(array.shape[1] for array in passes), *plane), size)
        self._engine, self._passes = engine, passes

    def download(self, array: Array, dtype: type) -> np.ndarray:
        with self._engine.turn():
            return self._engine.download(array)[0].astype(dtype)

    def activations(self, row: int) -> np.ndarray:
        maps = np.empty(self.shape[1:], np.float32)
        with self._engine.turn():
            for start, stop, part in self._parts(row):
                maps[start:stop] = self._engine.download(part)[0]
        return maps

    def mask(self, row: int, index: int, threshold: np.float32) -> np.ndarray:
        for start, stop, array in self._passes_of_labels():
            if index < stop:
                part = self._engine.part(array, row, index - start, index - start + 1)
                with self._engine.turn():
                    found = self._threshold(part, np.array([threshold], np.float32))
                    return self._engine.download(found["masks"])[0, 0].copy()
        raise IndexError(f"label index {index}: there are {self.shape[1]} labels")

    def measure(self, row: int, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers, (sums, peaks) = np.empty((self.shape[1], 5), np.int32), np.empty((2, self.shape[1]), np.float32)
        with self._engine.turn():
            for start, stop, part in self._parts(row):
                found = self._threshold(part, thresholds[start:stop])
                numbers[start:stop] = self._engine.download(found["numbers"])[0]
                sums[start:stop] = self._engine.download(found["sums"])[0]
                if "peaks" in found:
                    peaks[start:stop] = self._engine.download(found["peaks"])[0]
                else:  # a folder that was exported before its graphs had them
                    peaks[start:stop] = self._engine.download(part)[0].max(axis=(1, 2))
        return numbers, sums, peaks

    def _decide(self, vocabulary: Vocabulary) -> list[tuple[Array, Array]]:
        engine, ids, states = self._engine, np.array(vocabulary.ids, np.int32), ("label_map", "winning", "largest")
        decided = []
        with engine.turn():
            canvas = engine.canvas(self.size)
            # Labels go up once: frames are then enqueued one after the other, without waiting for any.
            labels = [
                {"thresholds": engine.keep(vocabulary.thresholds[start:stop]), "ids": engine.keep(ids[start:stop])}
                for start, stop, _ in self._parts(0)
            ]
            for row in range(self.shape[0]):
                found = {f"next_{name}": canvas[name] for name in states}
                for given, (_, _, part) in zip(labels, self._parts(row), strict=True):
                    state = {name: found[f"next_{name}"] for name in states}
                    found = engine.run(LABEL_MAP, {"activations": part, **given, **state})
                decided.append((found["next_label_map"], found["confidence"]))
        return decided

    def _threshold(self, part: Array, thresholds: np.ndarray) -> dict[str, Array]:
        canvas = self._engine.canvas(self.size)
        axes = {name: canvas[name] for name in ("rows", "columns")}
        return self._engine.run(MASKS, {"activations": part, "thresholds": thresholds, **axes})

    def _parts(self, row: int) -> Iterator[tuple[int, int, Array]]:
        """Cut a frame's activations into parts that one run takes: first and last label, and (1,k,h,w)."""
        most = labels_at_once(self._engine.decoder_memory, 1, self.size)
        for start, stop, array in self._passes_of_labels():
            for first in range(start, stop, most):
                last = min(first + most, stop)
                yield first, last, self._engine.part(array, row, first - start, last - start)

    def _passes_of_labels(self) -> Iterator[tuple[int, int, Array]]:
        """Pair each pass with its first and last label."""
        start = 0
        for array in self._passes:
            stop = min(start + array.shape[1], self.shape[1])
            yield start, stop, array
            start = stop
