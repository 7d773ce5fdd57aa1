"""Run a predictor over a data set and count."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from training.evaluation.predict import Predictor
from training.evaluation.samples import Sample
from training.metrics import IGNORE, ConfusionMatrix

KEPT_BYTES = 2**26  # of predictions, so that figures of a small data set need no second look


@dataclass
class Measured:
    """What a run over a data set counted.

    matrix: over all its pixels. singles: for each picture its place in the list of samples, its own mean IoU over the
    classes in its truth (percent) and how many classes those are. predictions: the first pictures' maps, by place.
    complete: False where the run was interrupted. seconds: spent in the network and its pre- and postprocessing,
    reading files excluded.
    """

    matrix: ConfusionMatrix
    singles: list[tuple[int, float, int]] = field(default_factory=list)
    predictions: dict[int, np.ndarray] = field(default_factory=dict)
    complete: bool = True
    seconds: float = 0.0


def measure(
    predictor: Predictor, samples: Sequence[Sample], classes: int, threshold: float | None, title: str = ""
) -> Measured:
    """Classify all samples and count; an interrupt (Ctrl-C) ends the run early and keeps what was counted.

    classes: in the truth, background included. threshold: activation of the background channel, None without one.
    """
    measured, room = Measured(ConfusionMatrix(classes)), KEPT_BYTES
    try:
        with tqdm(samples, desc=title, unit="image", smoothing=0.05) as bar:
            for place, sample in enumerate(bar):
                image, truth = sample.read()
                start = time.perf_counter()
                prediction = predictor.classify(image, threshold)
                measured.seconds += time.perf_counter() - start
                room -= prediction.nbytes
                if room >= 0:
                    measured.predictions[place] = prediction
                present = np.setdiff1d(np.unique(truth), [IGNORE])
                own = ConfusionMatrix(classes)
                own.update(prediction, truth)
                measured.matrix.counts += own.counts
                measured.singles.append((place, own.mean_iou(present.tolist()), len(present)))
                bar.set_postfix(mIoU=f"{measured.matrix.mean_iou():.1f}", refresh=False)
    except KeyboardInterrupt:
        measured.complete = False
    return measured
