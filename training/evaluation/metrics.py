"""Intersection over union as the field counts it: summed over a whole data set, then divided, then averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IGNORE = 255


class ConfusionMatrix:
    """Count (truth, prediction) pairs of class indices over a data set.

    classes: number of classes; `ignore` marks truth pixels that count nowhere. A prediction outside 0..classes-1
    (for instance background where the data set has none) counts as wrong.
    """

    def __init__(self, classes: int, ignore: int = IGNORE):
        if classes < 1:
            raise ValueError(f"{classes} classes: expected at least one")
        self.classes, self.ignore = classes, ignore
        self.counts = np.zeros((classes, classes + 1), np.int64)  # the last column: predicted as none of them

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add one image: prediction and truth are integer maps (H,W) of one shape."""
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
        keep = truth != self.ignore
        truth, prediction = truth[keep].astype(np.int64), prediction[keep].astype(np.int64)
        if truth.size and (truth.min() < 0 or truth.max() >= self.classes):
            raise ValueError(f"truth holds class {truth.max()}: expected 0 to {self.classes - 1} or {self.ignore}")
        prediction = np.where((prediction < 0) | (prediction >= self.classes), self.classes, prediction)
        cells = np.bincount(truth * (self.classes + 1) + prediction, minlength=self.counts.size)
        self.counts += cells.reshape(self.counts.shape)

    def iou(self) -> np.ndarray:
        """Return IoU per class in [0, 1], (classes,) float64; nan for a class neither present nor predicted."""
        intersection = np.diag(self.counts).astype(float)
        union = self.counts.sum(axis=1) + self.counts[:, : self.classes].sum(axis=0) - intersection
        return np.divide(intersection, union, out=np.full(self.classes, np.nan), where=union > 0)

    def mean_iou(self, classes: Sequence[int] | None = None) -> float:
        """Average IoU over the given classes (all by default) that occur, in percent."""
        values = self.iou() if classes is None else self.iou()[list(classes)]
        return float(np.nanmean(values) * 100) if np.isfinite(values).any() else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of counted pixels that got their true class, in percent; nan before the first."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total * 100) if total else float("nan")
