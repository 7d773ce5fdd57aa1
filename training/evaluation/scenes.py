"""Held-out generated scenes: does a label reach what its noun or its colour means, also where no mask taught it?

Four numbers, each a mean IoU in percent summed over all pictures; every pixel goes to the most active label.

* base: scenes of the base split, vocabulary = all base nouns + all stuff; mean over the base nouns.
* stuff: the same run, mean over stuff.
* novel: scenes with novel things, vocabulary = all nouns + all stuff; mean over the novel nouns.
* base_pairs, novel_pairs: vocabulary per picture = the coloured nouns in it, three near misses, its stuff; mean over
  the colour-noun pairs that mask training did or did not cover.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from synseg_model.result import Result
from synseg_model.segmenter import Segmenter
from synseg_model.visualize import contact_sheet, overlay
from training.datasets.scenes import BASE_NOUNS, COLORS, NOUNS, NOVEL_NOUNS, STUFF, Scene, is_base, make_scene
from training.metrics import ConfusionMatrix

HELD_OUT_SEED = 2_000_000_000  # far from every seed that training draws from


def arg_max(result: Result) -> np.ndarray:
    """Give every pixel to its most active label: (H,W) label indices, no background."""
    return np.argmax(result.activations, axis=0)


def truth_map(scene: Scene, labels: list[str]) -> np.ndarray:
    """Draw the truth as indices into labels, (H,W) uint8; 255 where no label names the segment."""
    rows = [
        next((i for i, label in enumerate(labels) if label in (s.noun, f"{s.color} {s.noun}")), 255)
        for s in scene.segments
    ]
    return np.array(rows, np.uint8)[scene.index_map]


def measure_nouns(
    segmenter: Segmenter, scenes: list[Scene], nouns: tuple[str, ...]
) -> tuple[ConfusionMatrix, list[float]]:
    """Segment scenes for nouns and all stuff; returns the counts and each picture's own mean IoU in percent."""
    labels = [*nouns, *STUFF]
    segmenter.set_vocabulary(labels)
    total, single = ConfusionMatrix(len(labels)), []
    for scene in tqdm(scenes, desc=f"{len(nouns)} nouns + {len(STUFF)} stuff", unit="image"):
        prediction, truth = arg_max(segmenter.segment(scene.image)), truth_map(scene, labels)
        total.update(prediction, truth)
        own = ConfusionMatrix(len(labels))
        own.update(prediction, truth)
        single.append(own.mean_iou(np.unique(truth).tolist()))
    return total, single


def measure_pairs(segmenter: Segmenter, scenes: list[Scene], seed: int) -> dict[str, float]:
    """Segment scenes for the coloured nouns in them; returns base_pairs and novel_pairs in percent."""
    pairs = [f"{color} {noun}" for noun in NOUNS for color in COLORS]
    matrix = ConfusionMatrix(len(pairs) + len(STUFF))
    rows = {label: i for i, label in enumerate([*pairs, *STUFF])}
    for number, scene in enumerate(tqdm(scenes, desc="colour-noun pairs", unit="image")):
        rng = np.random.default_rng((seed, number))
        present = [label for label in scene.labels if label in rows]
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
        labels = present + absent
        segmenter.set_vocabulary(labels)
        lookup = np.array([rows[label] for label in labels])
        truth = truth_map(scene, labels)
        known = np.where(truth == 255, len(rows), np.append(lookup, np.zeros(256, int))[truth])
        keep = known < len(rows)
        matrix.update(lookup[arg_max(segmenter.segment(scene.image))][keep], known[keep])
    base = [rows[label] for label in pairs if is_base(*label.split())]
    novel = [row for label, row in rows.items() if " " in label and row not in set(base)]
    seen = np.flatnonzero(matrix.counts.sum(axis=1))
    return {
        "base_pairs": matrix.mean_iou(np.intersect1d(base, seen).tolist()),
        "novel_pairs": matrix.mean_iou(np.intersect1d(novel, seen).tolist()),
    }


def evaluate_scenes(
    segmenter: Segmenter, count: int = 200, size: tuple[int, int] = (240, 320), seed: int = 0
) -> tuple[dict, list[tuple[Scene, float]]]:
    """Run the whole protocol on `count` scenes of a size (height, width) for each of its runs.

    Returns results for JSON and the base scenes with their own mean IoU.
    """
    start = HELD_OUT_SEED + seed * 1_000_000
    base_scenes, novel_scenes = (
        [make_scene(start + offset + i, size, split, (1, 5)) for i in range(count)]
        for offset, split in ((0, "base"), (500_000, "novel"))
    )
    base, single = measure_nouns(segmenter, base_scenes, BASE_NOUNS)
    novel, _ = measure_nouns(segmenter, novel_scenes, NOUNS)
    novel_rows = [NOUNS.index(noun) for noun in NOVEL_NOUNS]
    results = {
        "base": base.mean_iou(range(len(BASE_NOUNS))),
        "stuff": base.mean_iou(range(len(BASE_NOUNS), len(BASE_NOUNS) + len(STUFF))),
        "novel": novel.mean_iou(novel_rows),
        **measure_pairs(segmenter, base_scenes + novel_scenes, seed),
    }
    per_class = dict(zip([*BASE_NOUNS, *STUFF], base.iou() * 100, strict=True))
    per_class |= {noun: novel.iou()[row] * 100 for noun, row in zip(NOVEL_NOUNS, novel_rows, strict=True)}
    results = {key: round(value, 1) for key, value in results.items()}
    results["per_class"] = {label: round(float(value), 1) for label, value in per_class.items()}
    results["scenes"], results["size"] = count, list(size)
    return results, list(zip(base_scenes, single, strict=True))


def picture_grid(segmenter: Segmenter, scored: list[tuple[Scene, float]], count: int = 6) -> np.ndarray:
    """Show the best, the middle and the worst pictures: each with the overlay of its own labels beside it."""
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
