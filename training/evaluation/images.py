"""Images of predictions beside the truth, in the same colours and with the same names as everywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from synseg_model.io.drawing import contact_sheet, overlay
from training.evaluation.figures import label_thresholds
from training.evaluation.measure import Measured, classes_given
from training.evaluation.metrics import IGNORE
from training.evaluation.predict import Predictor
from training.evaluation.samples import EvaluationSample

TILE = 440  # pixels; larger images are shrunk to it before names are drawn on them


@dataclass(frozen=True)
class Painted:
    """A map of classes in the form that `overlay` paints.

    labels: names of the classes. label_map: (H,W) uint16, i+1 for class i, 0 for what is left as it is.
    """

    labels: tuple[str, ...]
    label_map: np.ndarray

    @property
    def ids(self) -> range:
        return range(1, len(self.labels) + 1)

    @property
    def shape(self) -> tuple[int, int]:
        return self.label_map.shape


def paint(image: np.ndarray, classes: np.ndarray, names: Sequence[str], background: bool) -> np.ndarray:
    """Draw a map of classes (H,W) over its image; background and ignored pixels stay as they are.

    names: of the classes without background. background: whether class 0 is background and class i+1 the name i.
    """
    label_map = classes.astype(np.uint16) + (0 if background else 1)
    label_map[classes == IGNORE] = 0
    return overlay(image, Painted(tuple(names), label_map))


def chosen_places(singles: Sequence[tuple[int, float, int]], count: int = 3) -> list[tuple[str, int, float]]:
    """Choose the best, the middle and the worst images: (kind, place, score), no image twice."""
    scored = sorted((single for single in singles if np.isfinite(single[1])), key=lambda single: -single[1])
    count = min(count, max(1, len(scored) // 3))
    middle = max(0, (len(scored) - count) // 2)
    parts = (("best", scored[:count]), ("middle", scored[middle : middle + count]), ("worst", scored[-count:]))
    places: dict[int, tuple[str, int, float]] = {}
    for kind, part in parts:
        for place, score, _ in part:
            places.setdefault(place, (kind, place, score))
    return list(places.values())


def prediction_grid(
    predictor: Predictor,
    samples: Sequence[EvaluationSample],
    measured: Measured,
    names: Sequence[str],
    threshold: float | None,
    path: Path,
) -> Path:
    """Lay out image, truth and prediction of the best, middle and worst samples; threshold as in `classify`."""
    images, captions = [], []
    for kind, place, score in chosen_places(measured.singles):
        image, truth = samples[place].read()
        prediction, with_background = measured.predictions.get(place), threshold is not None
        if prediction is None:
            given = classes_given(truth, with_background) if measured.present else None
            prediction = predictor.classify(image, threshold, given)
        image, truth, prediction = (_shrunk(image) for image in (image, truth, prediction))
        images += [image, *(paint(image, classes, names, with_background) for classes in (truth, prediction))]
        captions += [samples[place].name, "truth", f"predicted; {kind}: mIoU {score:.1f} over its classes"]
    cv2.imwrite(str(path), contact_sheet(images, columns=3, captions=captions, tile=TILE)[:, :, ::-1])
    return path


def threshold_figure(
    predictor: Predictor,
    samples: Sequence[EvaluationSample],
    measured: Measured,
    names: Sequence[str],
    background: bool,
    path: Path,
    most: int = 4,
) -> Path:
    """Show the first image with the most classes: its largest classes at several thresholds of the activation."""
    place = max(measured.singles, key=lambda single: single[2])[0]
    image, truth = samples[place].read()
    first = 1 if background else 0
    present, areas = np.unique(truth[(truth != IGNORE) & (truth >= first)], return_counts=True)
    chosen = present[np.argsort(-areas, kind="stable")][:most].astype(int)
    if not len(chosen):  # nothing but background in this data set
        chosen = np.array([first])
    with torch.inference_mode():
        scores = predictor.scores(image)[torch.from_numpy(chosen - first)]
        activations = scores if predictor.settings.refined else scores.sigmoid()
        maps = F.interpolate(activations[None], image.shape[:2], mode="bilinear", align_corners=False)[0].cpu().numpy()
    truths = np.stack([truth == index for index in chosen])
    chosen_names = [names[index - first] for index in chosen]
    return label_thresholds(image, chosen_names, truths, maps, path, title=samples[place].name)


def _shrunk(image: np.ndarray) -> np.ndarray:
    scale = TILE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if image.ndim == 3 else cv2.INTER_NEAREST)
