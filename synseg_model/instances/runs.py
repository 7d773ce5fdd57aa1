"""Connected components of all labels at once, from runs: pieces of one image row that have one value.

A 640x480 label map with 30 objects has some thousand runs, so everything after finding them costs little, however many
labels there are. Source: run-based labelling, He, Chao and Suzuki, "A Run-Based Two-Scan Labeling Algorithm" (2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class Runs:
    """Hold runs in the order of rows and, inside a row, from left to right; each array is (R,).

    label: index of the label. row, start, stop: the run has the pixels [start, stop) of that row. weight: the sum of
    the confidence over these pixels.
    """

    label: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    weight: np.ndarray

    def take(self, chosen: np.ndarray) -> Runs:
        """Choose runs by their indices, in ascending order."""
        return Runs(*(array[chosen] for array in (self.label, self.row, self.start, self.stop, self.weight)))


@dataclass(frozen=True, eq=False)
class Components:
    """Hold connected components; each array is (C,), the pixels are those of runs[order[first[c] : first[c + 1]]].

    label: index of the label. box: (C,4) left, top, right, bottom in pixels, right and bottom exclusive. area: pixels.
    center: (C,2) x, y of the centroid. weight: the sum of the confidence over the pixels.
    """

    runs: Runs
    order: np.ndarray
    first: np.ndarray
    label: np.ndarray
    box: np.ndarray
    area: np.ndarray
    center: np.ndarray
    weight: np.ndarray

    def masks(self, chosen: Sequence[int]) -> list[np.ndarray]:
        """Draw components inside their boxes, each (h,w) bool; all are views of one array."""
        if not len(chosen):
            return []
        counts = np.diff(self.first)[chosen]
        skipped = np.cumsum(counts) - counts  # runs of the components before
        of = self.order[np.arange(int(counts.sum())) + np.repeat(self.first[chosen] - skipped, counts)]
        left, top, right, bottom = self.box[chosen].T
        width, height = right - left, bottom - top
        stop = np.cumsum(width * height)
        begin = stop - width * height
        at = np.repeat(begin - top * width - left, counts) + self.runs.row[of] * np.repeat(width, counts)
        # All masks in one row of pixels: outside, inside, outside, ... and where each of these ends.
        ends = np.empty(2 * len(of) + 1, np.int64)
        ends[:-1:2], ends[1::2] = at + self.runs.start[of], at + self.runs.stop[of]
        ends[-1] = stop[-1]
        inside = np.zeros(len(ends), bool)
        inside[1::2] = True
        ends[1:] -= ends[:-1].copy()
        pixels = inside.repeat(ends)
        shapes = zip(begin.tolist(), stop.tolist(), height.tolist(), width.tolist(), strict=True)
        return [pixels[start:end].reshape(rows, columns) for start, end, rows, columns in shapes]


def find_runs(values: np.ndarray, weights: np.ndarray) -> Runs:
    """Find the runs of a map.

    Args:
        values: (H,W) integers; 0 is background and has no runs. They become `label` as they are.
        weights: (H,W) float32 that is summed over each run.
    """
    width = values.shape[1]
    flat = np.ascontiguousarray(values).reshape(-1)
    changes = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=changes[1:])
    changes[::width] = True  # runs end with their row
    starts = np.flatnonzero(changes)
    found = flat[starts]
    kept = np.flatnonzero(found)
    if not kept.size:
        return Runs(*(np.zeros(0, np.int64) for _ in range(4)), np.zeros(0, np.float32))
    sums = np.add.reduceat(np.ascontiguousarray(weights).reshape(-1), starts)[kept]
    stops = np.append(starts[1:], flat.size)[kept]
    row, start = np.divmod(starts[kept], width)
    return Runs(found[kept].astype(np.int64), row, start, stops - row * width, sums)


def connect(runs: Runs, layers: np.ndarray | None = None) -> Components:
    """Join runs of one label that touch, also at corners (8-connectivity).

    Args:
        runs: at least one.
        layers: (R,) numbers in ascending order; runs of different layers do not touch. None: all are in one.
    """
    row = runs.row if layers is None else runs.row + layers * (int(runs.row.max()) + 2)
    upper, lower = _touching(row, runs)
    count = len(row)
    begins = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(upper, minlength=count), out=begins[1:])
    graph = csr_array((np.ones(len(upper)), lower.astype(np.int32), begins), shape=(count, count))
    total, member = connected_components(graph, directed=False)
    # numpy sorts numbers of 16 bits several times as fast.
    order = np.argsort(member.astype(np.uint16) if total <= 1 << 16 else member, kind="stable")
    first = np.concatenate(([0], np.cumsum(np.bincount(member))))
    heads = first[:-1]
    length = runs.stop - runs.start
    box = np.empty((total, 4), np.int64)
    box[:, 0] = np.minimum.reduceat(runs.start[order], heads)
    box[:, 1] = runs.row[order[heads]]  # runs are in the order of rows
    box[:, 2] = np.maximum.reduceat(runs.stop[order], heads)
    box[:, 3] = runs.row[order[first[1:] - 1]] + 1
    area = np.add.reduceat(length[order], heads)
    center = np.empty((total, 2))
    center[:, 0] = np.add.reduceat((length * (runs.start + runs.stop - 1))[order], heads) / (2 * area)
    center[:, 1] = np.add.reduceat((length * runs.row)[order], heads) / area
    label, weight = runs.label[order[heads]], np.add.reduceat(runs.weight[order], heads)
    return Components(runs, order, first, label, box, area, center, weight)


def _touching(row: np.ndarray, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Pair each run with the runs of its label in the next row that it touches."""
    stride = int(runs.stop.max()) + 2
    begins, ends = row * stride + runs.start, row * stride + runs.stop
    # Positions in the next row: runs there that stop at our start or later and start at our stop or before.
    low = np.searchsorted(ends, begins + stride, side="left")
    high = np.searchsorted(begins, ends + stride, side="right")
    counts = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(row)), counts)
    lower = np.arange(len(upper)) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    same = runs.label[upper] == runs.label[lower]
    return upper[same], lower[same]
