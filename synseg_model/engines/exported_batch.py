"""Activations that an exported folder's engine keeps on its device, and what Results ask of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Generic, NamedTuple, Protocol

import numpy as np

from synseg_model.engines.device_batch import Array, DeviceBatch, labels_at_once
from synseg_model.engines.label_sizes import NO_LABEL
from synseg_model.vocabulary import Vocabulary
from synseg_model.weights.exported_folder import LABEL_MAP, MASKS

Measures = tuple[np.ndarray, np.ndarray, np.ndarray]  # numbers (B,K,5), sums and peaks (B,K)


class GraphRunner(Protocol[Array]):
    """What a batch asks of the engine that made it; `ExportedEngine` describes each."""

    decoder_memory: int

    def turn(self) -> AbstractContextManager: ...

    def run(self, graph: str, inputs: dict[str, np.ndarray | Array]) -> dict[str, Array]: ...

    def keep(self, array: np.ndarray) -> Array: ...

    def download(self, array: Array) -> np.ndarray: ...

    def part(self, array: Array, rows: slice, labels: slice) -> Array: ...

    def takes_batches(self, graph: str) -> bool: ...

    def canvas(self, frames: int, size: tuple[int, int]) -> dict[str, Array]: ...


class _Decided(Generic[Array]):
    """Label maps or confidences (B,H,W) of one run: they come down together, when the first frame's is asked for."""

    def __init__(self, array: Array) -> None:
        self._array: Array | None = array
        self._host: np.ndarray | None = None

    def host(self, engine: GraphRunner[Array]) -> np.ndarray:
        with engine.turn():
            if self._host is None:
                # The engine uses its memory again for the next download.
                self._host, self._array = engine.download(self._array).copy(), None
            return self._host


class _Row(NamedTuple):
    """One frame's share."""

    decided: _Decided
    index: int


class ExportedBatch(DeviceBatch[_Row]):
    """Keep the activations of frames of one size (H,W), (B,k,h,w) for each pass of the decoder.

    labels: how many there are, where the last pass has more.
    A run of a graph takes so many labels, and so many frames with all labels of a pass, that planes of the frames' size
    fit into the engine's `decoder_memory`; one frame where the graph takes no more.
    """

    def __init__(
        self, engine: GraphRunner[Array], passes: Sequence[Array], size: tuple[int, int], labels: int | None = None
    ) -> None:
        batch, _, *plane = passes[0].shape
        super().__init__((batch, labels or sum(array.shape[1] for array in passes), *plane), size)
        self._engine, self._passes = engine, passes
        self._places = sum(array.shape[1] for array in passes)  # for labels, with those that no label takes
        self._measured: tuple[np.ndarray, Measures] | None = None

    def download(self, array: _Row, dtype: type) -> np.ndarray:
        return array.decided.host(self._engine)[array.index].astype(dtype)

    def activations(self, row: int) -> np.ndarray:
        maps = np.empty((self._places, *self.shape[2:]), np.float32)
        with self._engine.turn():
            for labels, part in self._parts(slice(row, row + 1)):
                maps[labels] = self._engine.download(part)[0]
        return maps[: self.shape[1]]

    def mask(self, row: int, index: int, threshold: np.float32) -> np.ndarray:
        if index >= self.shape[1]:
            raise IndexError(f"label index {index}: there are {self.shape[1]} labels")
        for array in self._passes:
            if index < array.shape[1]:
                break
            index -= array.shape[1]
        with self._engine.turn():
            part = self._engine.part(array, slice(row, row + 1), slice(index, index + 1))
            return self._engine.download(self._threshold(part, np.array([threshold], np.float32))["masks"])[0, 0].copy()

    def measure(self, row: int, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with self._lock:
            if self._measured is None or not np.array_equal(self._measured[0], thresholds):
                self._measured = thresholds.copy(), self._measure(thresholds)
            return tuple(values[row, : self.shape[1]] for values in self._measured[1])

    def _measure(self, thresholds: np.ndarray) -> Measures:
        """Measure the masks of all frames, also in places that no label takes."""
        shape, thresholds = (self.shape[0], self._places), self._filled(thresholds, NO_LABEL)
        numbers, (sums, peaks) = np.empty((*shape, 5), np.int32), np.empty((2, *shape), np.float32)
        with self._engine.turn():
            for rows in self._groups(MASKS):
                for labels, part in self._parts(rows):
                    found = self._threshold(part, thresholds[labels])
                    numbers[rows, labels] = self._engine.download(found["numbers"])
                    sums[rows, labels] = self._engine.download(found["sums"])
                    if "peaks" in found:
                        peaks[rows, labels] = self._engine.download(found["peaks"])
                    else:  # a folder that was exported before its graphs had them
                        peaks[rows, labels] = self._engine.download(part).max(axis=(2, 3))
        return numbers, sums, peaks

    def _decide(self, vocabulary: Vocabulary) -> list[tuple[_Row, _Row]]:
        engine, states = self._engine, ("label_map", "winning", "largest")
        thresholds = self._filled(vocabulary.thresholds, NO_LABEL)
        ids = self._filled(np.array(vocabulary.ids, np.int32), 1)
        decided: list[tuple[_Row, _Row]] = []
        with engine.turn():
            # Labels go up once: runs are then enqueued one after the other, without waiting for any.
            given = [
                {"thresholds": engine.keep(thresholds[labels]), "ids": engine.keep(ids[labels])}
                for labels, _ in self._parts(slice(0, 1))
            ]
            for rows in self._groups(LABEL_MAP):
                canvas = engine.canvas(rows.stop - rows.start, self.size)
                found = {f"next_{name}": canvas[name] for name in states}
                for labels, (_, part) in zip(given, self._parts(rows), strict=True):
                    state = {name: found[f"next_{name}"] for name in states}
                    found = engine.run(LABEL_MAP, {"activations": part, **labels, **state})
                label_maps, confidences = _Decided(found["next_label_map"]), _Decided(found["confidence"])
                decided += [(_Row(label_maps, i), _Row(confidences, i)) for i in range(rows.stop - rows.start)]
        return decided

    def _threshold(self, part: Array, thresholds: np.ndarray) -> dict[str, Array]:
        canvas = self._engine.canvas(1, self.size)
        axes = {name: canvas[name] for name in ("rows", "columns")}
        return self._engine.run(MASKS, {"activations": part, "thresholds": thresholds, **axes})

    def _filled(self, values: np.ndarray, rest: float) -> np.ndarray:
        """Fill values (K) up to all places, so that runs have few sizes."""
        return np.pad(values, (0, self._places - len(values)), constant_values=rest)

    def _groups(self, graph: str) -> list[slice]:
        """Divide frames among runs of a graph."""
        most = 1
        if self._engine.takes_batches(graph):
            most = max(1, self._labels_at_once // max(array.shape[1] for array in self._passes))
        starts = range(0, self.shape[0], most)
        return [slice(start, min(start + most, self.shape[0])) for start in starts]

    def _parts(self, rows: slice) -> Iterator[tuple[slice, Array]]:
        """Cut the activations of some frames into parts that one run takes: which labels, and (rows,k,h,w)."""
        start = 0
        for array in self._passes:
            every = array.shape[1]
            for first in range(0, min(every, self.shape[1] - start), self._labels_at_once):
                last = min(first + self._labels_at_once, every)
                yield slice(start + first, start + last), self._engine.part(array, rows, slice(first, last))
            start += every

    @property
    def _labels_at_once(self) -> int:
        return labels_at_once(self._engine.decoder_memory, 1, self.size)
