"""Held-out generated scenes: does a label reach what its noun or its colour means, also where no mask taught it?

Numbers in percent; IoU is summed over all images before dividing; every pixel goes to the most active label.

* base: scenes of the base split, vocabulary = all base nouns + all stuff; mean IoU over the base nouns.
* stuff: the same run, mean IoU over stuff.
* novel: scenes with novel things, vocabulary = all nouns + all stuff; mean IoU over the novel nouns.
* base_pairs, novel_pairs: vocabulary per image = the coloured nouns in it, three near misses, its stuff; mean IoU
  over the colour-noun pairs that mask training did or did not cover.
* base_boundary, novel_boundary: do outlines lie where they should? Mean boundary F-score, see
  `training.evaluation.boundary`, over base nouns or novel nouns in the runs above, 3 pixels of tolerance in images
  of 240x320.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from synseg_model.io.drawing import contact_sheet, overlay
from synseg_model.segmenter import Segmenter
from training.evaluation.boundary import boundary_f_score, tolerance
from training.evaluation.metrics import ConfusionMatrix
from training.scenes.scenes import BASE_NOUNS, COLORS, NOUNS, NOVEL_NOUNS, STUFF, Scene, is_base, make_scene

HELD_OUT_SEED = 2_000_000_000  # far from every seed that training draws from


@dataclass(frozen=True)
class HeldOut:
    """Scenes of a seed that no training saw: those of the base split and those with novel things."""

    base: list[Scene]
    novel: list[Scene]
    seed: int


def held_out(count: int, size: tuple[int, int] = (240, 320), seed: int = 0) -> HeldOut:
    """Draw `count` scenes of each split at a size (height, width)."""
    start = HELD_OUT_SEED + seed * 1_000_000
    base, novel = (
        [make_scene(start + offset + i, size, split, (1, 5)) for i in range(count)]
        for offset, split in ((0, "base"), (500_000, "novel"))
    )
    return HeldOut(base, novel, seed)


def arg_max(activations: np.ndarray) -> np.ndarray:
    """Give every pixel of maps (K,H,W) to its most active label: (H,W) label indices, no background."""
    return np.argmax(activations, axis=0)


def truth_map(scene: Scene, labels: list[str]) -> np.ndarray:
    """Draw the truth as indices into labels, (H,W) uint8; 255 where no label names the segment."""
    rows = [
        next((i for i, label in enumerate(labels) if label in (s.noun, f"{s.color} {s.noun}")), 255)
        for s in scene.segments
    ]
    return np.array(rows, np.uint8)[scene.index_map]


class NounCounter:
    """Count how well nouns and all stuff are told apart, and how well outlines of things are followed."""

    def __init__(self, nouns: tuple[str, ...], outlined: tuple[str, ...]):
        """nouns: in the vocabulary. outlined: nouns whose boundaries are scored."""
        self.labels = [*nouns, *STUFF]
        self.outlined = [self.labels.index(noun) for noun in outlined]
        self.total = ConfusionMatrix(len(self.labels))
        self.single: list[float] = []  # each image's own mean IoU
        self.boundaries: list[float] = []

    def update(self, scene: Scene, prediction: np.ndarray) -> None:
        """Take in a prediction (H,W) of indices into `labels`."""
        truth, own = truth_map(scene, self.labels), ConfusionMatrix(len(self.labels))
        own.update(prediction, truth)
        self.total.counts += own.counts
        present = np.unique(truth).tolist()
        self.single.append(own.mean_iou(present))
        self.boundaries += [
            boundary_f_score(prediction == index, truth == index, tolerance(truth.shape))
            for index in self.outlined
            if index in present
        ]

    def boundary(self) -> float:
        """Return the mean boundary F-score in percent, nan where no outlined noun was seen."""
        return 100 * float(np.mean(self.boundaries)) if self.boundaries else float("nan")


class PairCounter:
    """Count how well the colour-noun pairs of an image are told from near misses and its stuff."""

    def __init__(self, seed: int):
        """seed: of the near misses."""
        self.seed, self.seen = seed, 0
        self.pairs = [f"{color} {noun}" for noun in NOUNS for color in COLORS]
        self.rows = {label: i for i, label in enumerate([*self.pairs, *STUFF])}
        self.total = ConfusionMatrix(len(self.rows))

    def labels(self, scene: Scene) -> list[str]:
        """Draw the vocabulary of the next scene."""
        rng = np.random.default_rng((self.seed, self.seen))
        self.seen += 1
        present = [label for label in scene.labels if label in self.rows]
        things = [label for label in present if " " in label]
        absent = []
        while things and len(absent) < 3:
            color, noun = things[rng.integers(len(things))].split()
            other = (
                f"{color} {NOUNS[rng.integers(len(NOUNS))]}"
                if rng.random() < 0.5
                else f"{rng.choice(list(COLORS))} {noun}"
            )
            if other not in present and other not in absent:
                absent.append(other)
        return present + absent

    def update(self, scene: Scene, labels: list[str], prediction: np.ndarray) -> None:
        """Take in a prediction (H,W) of indices into labels."""
        lookup = np.array([self.rows[label] for label in labels])
        truth = truth_map(scene, labels)
        keep = truth != 255
        self.total.update(lookup[prediction[keep]], lookup[truth[keep]])

    def results(self) -> dict[str, float]:
        """Return base_pairs and novel_pairs in percent."""
        base = [self.rows[label] for label in self.pairs if is_base(*label.split())]
        novel = [row for label, row in self.rows.items() if " " in label and row not in set(base)]
        seen = np.flatnonzero(self.total.counts.sum(axis=1))
        return {
            "base_pairs": self.total.mean_iou(np.intersect1d(base, seen).tolist()),
            "novel_pairs": self.total.mean_iou(np.intersect1d(novel, seen).tolist()),
        }


def measure_split(segmenter: Segmenter, scenes: list[Scene], nouns: NounCounter, pairs: PairCounter) -> None:
    """Segment scenes once for the labels of both counters: a label's map does not depend on the others."""
    for scene in tqdm(scenes, desc=f"{len(nouns.labels)} labels and pairs", unit="image", leave=False):
        own = pairs.labels(scene)
        labels = list(dict.fromkeys([*nouns.labels, *own]))
        maps = segmenter.segment(scene.image, segmenter.prepare_vocabulary(labels)).activations
        nouns.update(scene, arg_max(maps[: len(nouns.labels)]))
        if own:
            pairs.update(scene, own, arg_max(maps[[labels.index(label) for label in own]]))


def measure_scenes(segmenter: Segmenter, scenes: HeldOut) -> tuple[dict, list[tuple[Scene, float]]]:
    """Run the whole protocol; returns results for JSON and the base scenes with their own mean IoU."""
    base, novel = NounCounter(BASE_NOUNS, BASE_NOUNS), NounCounter(NOUNS, NOVEL_NOUNS)
    pairs = PairCounter(scenes.seed)
    measure_split(segmenter, scenes.base, base, pairs)
    measure_split(segmenter, scenes.novel, novel, pairs)
    novel_rows = [NOUNS.index(noun) for noun in NOVEL_NOUNS]
    results = {
        "base": base.total.mean_iou(range(len(BASE_NOUNS))),
        "stuff": base.total.mean_iou(range(len(BASE_NOUNS), len(BASE_NOUNS) + len(STUFF))),
        "novel": novel.total.mean_iou(novel_rows),
        **pairs.results(),
        "base_boundary": base.boundary(),
        "novel_boundary": novel.boundary(),
    }
    per_class = dict(zip(base.labels, base.total.iou() * 100, strict=True))
    per_class |= {noun: novel.total.iou()[row] * 100 for noun, row in zip(NOVEL_NOUNS, novel_rows, strict=True)}
    results = {key: round(value, 1) for key, value in results.items()}
    results["per_class"] = {label: round(float(value), 1) for label, value in per_class.items()}
    results["scenes"], results["size"] = len(scenes.base), list(scenes.base[0].image.shape[:2])
    return results, list(zip(scenes.base, base.single, strict=True))


def evaluate_scenes(
    segmenter: Segmenter, count: int = 200, size: tuple[int, int] = (240, 320), seed: int = 0
) -> tuple[dict, list[tuple[Scene, float]]]:
    """Draw `count` scenes of a size (height, width) for each of the protocol's runs, and measure on them."""
    return measure_scenes(segmenter, held_out(count, size, seed))


def image_grid(segmenter: Segmenter, scored: list[tuple[Scene, float]], count: int = 6) -> np.ndarray:
    """Show the best, the middle and the worst images: each with the overlay of its own labels beside it."""
    order = sorted(range(len(scored)), key=lambda i: -scored[i][1])
    middle = len(order) // 2 - count // 2
    chosen = [*order[:count], *order[middle : middle + count], *order[-count:]]
    images, captions = [], []
    for i in chosen:
        scene, score = scored[i]
        segmenter.set_vocabulary([label for label in scene.labels if " " not in label])
        images += [scene.image, overlay(scene.image, segmenter.segment(scene.image))]
        captions += [scene.caption, f"mIoU {score:.0f} among {len(BASE_NOUNS) + len(STUFF)} labels"]
    return contact_sheet(images, columns=6, captions=captions)
