"""Run a predictor over a data set and count."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from training.evaluation.metrics import IGNORE, ConfusionMatrix
from training.evaluation.predict import Predictor
from training.evaluation.samples import EvaluationSample

KEPT_BYTES = 2**26  # of predictions, so that figures of a small data set need no second look


@dataclass
class Measured:
    """What a run over a data set counted.

    matrix: over all its pixels. singles: for each image its place in the list of samples, its own mean IoU over the
    classes in its truth (percent) and how many classes those are. predictions: the first images' maps, by place.
    complete: False where the run was interrupted. present: whether each image was asked for its own classes alone.
    seconds: spent in the network and its pre- and postprocessing,
    reading files excluded.
    """

    matrix: ConfusionMatrix
    singles: list[tuple[int, float, int]] = field(default_factory=list)
    predictions: dict[int, np.ndarray] = field(default_factory=dict)
    complete: bool = True
    present: bool = False
    seconds: float = 0.0


def classes_given(truth: np.ndarray, background: bool) -> list[int]:
    """List the classes that an image's truth (H,W) holds, as a predictor numbers them: background is none."""
    present = np.setdiff1d(np.unique(truth), [IGNORE, 0] if background else [IGNORE]).astype(int)
    return (present - background).tolist()


def measure(
    predictor: Predictor,
    samples: Sequence[EvaluationSample],
    classes: int,
    threshold: float | None,
    title: str = "",
    present: bool = False,
) -> Measured:
    """Classify all samples and count; an interrupt (Ctrl-C) ends the run early and keeps what was counted.

    classes: in the truth, background included. threshold: activation of the background channel, None without one.
    present: ask for the classes that are in each image's truth, and no others.
    """
    measured, room = Measured(ConfusionMatrix(classes), present=present), KEPT_BYTES
    try:
        with tqdm(samples, desc=title, unit="image", smoothing=0.05) as bar:
            for place, sample in enumerate(bar):
                image, truth = sample.read()
                given = classes_given(truth, threshold is not None) if present else None
                start = time.perf_counter()
                prediction = predictor.classify(image, threshold, given)
                measured.seconds += time.perf_counter() - start
                room -= prediction.nbytes
                if room >= 0:
                    measured.predictions[place] = prediction
                occurring = np.setdiff1d(np.unique(truth), [IGNORE])
                own = ConfusionMatrix(classes)
                own.update(prediction, truth)
                measured.matrix.counts += own.counts
                measured.singles.append((place, own.mean_iou(occurring.tolist()), len(occurring)))
                bar.set_postfix(mIoU=f"{measured.matrix.mean_iou():.1f}", refresh=False)
    except KeyboardInterrupt:
        measured.complete = False
    return measured
