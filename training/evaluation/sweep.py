"""Choose the threshold of background where it may be chosen: on images that are not reported."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from training.evaluation.measure import classes_given
from training.evaluation.metrics import ConfusionMatrix
from training.evaluation.predict import Predictor, with_background
from training.evaluation.samples import EvaluationSample

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


def check_disjoint(tuning: Sequence[EvaluationSample], reported: Sequence[EvaluationSample]) -> None:
    """Raise ValueError where an image is both tuned on and reported, by file or by name."""
    names = {sample.name for sample in reported} | {sample.path.resolve() for sample in reported}
    shared = [sample.name for sample in tuning if sample.name in names or sample.path.resolve() in names]
    if shared:
        raise ValueError(
            f"{len(shared)} images would be both tuned on and reported ({shared[0]} for instance): a threshold tuned "
            "on the reported split measures nothing. Choose another --split or --tune_split, or give --threshold"
        )


def sweep(
    predictor: Predictor,
    samples: Sequence[EvaluationSample],
    classes: int,
    thresholds: Sequence[float] = THRESHOLDS,
    present: bool = False,
) -> dict[float, float]:
    """Measure mean IoU in percent at each threshold of the background; the network runs once per image.

    present: ask for the classes that are in each image's truth, and no others.
    """
    scores = {threshold: predictor.background_score(threshold) for threshold in thresholds}
    matrices = {threshold: ConfusionMatrix(classes) for threshold in thresholds}
    for sample in tqdm(samples, desc="threshold sweep", unit="image", smoothing=0.05):
        image, truth = sample.read()
        largest, winner = predictor.best(image, classes_given(truth, background=True) if present else None)
        for threshold, score in scores.items():
            matrices[threshold].update(with_background(largest, winner, score), truth)
    return {threshold: matrix.mean_iou() for threshold, matrix in matrices.items()}


def best_threshold(curve: dict[float, float]) -> float:
    """Return the threshold with the highest mean IoU, of equals the lowest threshold."""
    return max(sorted(curve), key=curve.__getitem__)
