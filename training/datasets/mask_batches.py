"""What mask training of the decoder sees: images or windows of them, labels present and absent, their masks.

Everything is of the base split: no novel noun and no novel colour-noun pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.datasets.arrays import to_tensor
from training.datasets.windows import window_around
from training.loop.trainer import Share
from training.networks.tiny_clip import PATCH, random_window
from training.objective.batch import MaskBatch
from training.scenes.pool import Chunk
from training.scenes.scenes import BASE_NOUNS, COLORS, STUFF
from training.scenes.vocabulary import is_base

COMPETING = (*BASE_NOUNS, *STUFF)


@dataclass
class SceneMaskConfig:
    """Which scenes with masks a decoder sees, and what of them.

    Args:
        cache: folder for the rendered scenes.
        scenes: number of scenes, all of the base split, in the shape of a camera's 4:3 image.
        crop: side in pixels of the windows that training sees first. Two thirds of them lie around a thing.
        crop_steps: share of the steps that see windows. The other steps see whole images, with as many pixels in a
            batch. A window shows a thing at the same size for a quarter of the work.
        decoded: share of the windows in a batch that is decoded. All of them train the blocks before FiLM.
        labels: labels that are decoded for each image, present and absent ones.
    """

    cache: str = "runs/cache"
    scenes: int = 20_000
    crop: int = 96
    crop_steps: float = 0.85
    decoded: float = 0.4
    labels: int = 8


def base_labels() -> list[str]:
    """List every label that mask training may use: base nouns, base colour-noun pairs, stuff."""
    pairs = [f"{color} {noun}" for noun in BASE_NOUNS for color in COLORS if is_base(color, noun)]
    return [*COMPETING, *pairs]


def draw_labels(
    segments: list[tuple[str, str | None]], visible: np.ndarray, count: int, rng: np.random.Generator
) -> list[str]:
    """Draw present and absent labels for a scene, half and half; the odd one is present.

    A third each of the absent labels are nouns, stuff and near misses: a present noun in another colour, or another
    noun in a present colour. Without much absent stuff, a decoder takes any name of stuff for "background".

    Args:
        segments: noun and colour of each segment; stuff has no colour.
        visible: share of the image that each segment covers. A segment below 0.4 % is neither present nor absent.
        count: labels to draw.
        rng: draws them.

    Returns:
        The labels, present ones first.
    """
    shown = [segment for segment, share in zip(segments, visible, strict=True) if share]
    large = [segment for segment, share in zip(segments, visible, strict=True) if share >= 0.004]
    names = {name for noun, color in large for name in (noun, f"{color} {noun}" if color else noun)}
    present = [str(label) for label in rng.permutation(sorted(names))][: count - count // 2]
    known = {name for noun, color in shown for name in (noun, f"{color} {noun}")}
    things = [(noun, color) for noun, color in shown if color]
    absent: list[str] = []
    while len(present) + len(absent) < count:
        kind = rng.integers(6)
        noun, color = BASE_NOUNS[rng.integers(len(BASE_NOUNS))], list(COLORS)[rng.integers(len(COLORS))]
        if things and kind < 2:
            shown_noun, shown_color = things[rng.integers(len(things))]
            noun, color = (shown_noun, color) if kind == 0 else (noun, shown_color)
        label = STUFF[rng.integers(len(STUFF))] if kind in (2, 3) else noun if kind > 3 else f"{color} {noun}"
        if label not in known and label not in absent and (kind >= 2 or is_base(color, noun)):
            absent.append(label)
    return present + absent


def draw_window(
    index_map: np.ndarray, segments: list[tuple[str, str | None]], side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Choose a square window: anywhere, or so that it holds the middle of a thing of the scene near its own."""
    if rng.random() < 1 / 3:
        top, left = (int(rng.integers(length - side + 1)) for length in index_map.shape)
        return slice(top, top + side), slice(left, left + side)
    things = [i for i, (_, color) in enumerate(segments) if color and (index_map == i).any()]
    return window_around(index_map == things[rng.integers(len(things))], side, rng.uniform(-0.3, 0.3, 2))


def mask_of(label: str, segments: list[tuple[str, str | None]], index_map: np.ndarray) -> np.ndarray:
    """Return the pixels (H,W) bool of the segments that a label names."""
    hit = np.array([label == noun or label == f"{color} {noun}" for noun, color in segments])
    return hit[index_map]


def token_targets(
    index_map: np.ndarray, segments: list[tuple[str, str | None]], patch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Name the noun and the colour of each token, (P,) each: -1 where no segment has 60 % of its pixels."""
    rows, columns = (side // patch for side in index_map.shape)
    pixels = index_map.reshape(rows, patch, columns, patch).swapaxes(1, 2).reshape(rows * columns, -1)
    counts = np.stack([(pixels == index).sum(axis=1) for index in range(len(segments))], axis=1)
    clear = counts.max(axis=1) >= 0.6 * patch**2
    colors = list(COLORS)
    nouns = np.array([COMPETING.index(noun) for noun, _ in segments])[counts.argmax(axis=1)]
    named = np.array([colors.index(color) if color else -1 for _, color in segments])[counts.argmax(axis=1)]
    return np.where(clear, nouns, -1), np.where(clear, named, -1)


class MaskBatches:
    """Batches of scenes with masks; they are a function of seed and step."""

    def __init__(
        self, chunks: list[Chunk], config: SceneMaskConfig, labels: Sequence[str], table: Tensor, seed: int, steps: int
    ):
        """Take scenes of one size.

        Args:
            chunks: the scenes.
            config: what of them a batch shows.
            labels: every label that may be drawn, see `base_labels`.
            table: (N,C) their text embeddings.
            seed: of what each step sees.
            steps: of the whole run.
        """
        self.chunks, self.config, self.seed, self.steps = chunks, config, seed, steps
        self.table, self.rows = table, {label: row for row, label in enumerate(labels)}
        self.size = chunks[0].images.shape[1:3]

    def __call__(self, share: Share) -> Iterator[list[MaskBatch]]:
        """Yield the parts of each step, without end."""
        step = share.start
        while True:
            yield [self.part(step, number, share) for number in share.numbers()]
            step += 1

    def part(self, step: int, number: int, share: Share) -> MaskBatch:
        """Draw a part of a step: its number among the parts of all processes decides what it shows."""
        config = self.config
        height, width = self.size
        rng = np.random.default_rng((self.seed, 2, step, number))
        chunk = self.chunks[rng.integers(len(self.chunks))]
        windows = step < config.crop_steps * self.steps
        count = share.size if windows else max(1, share.size * config.crop**2 // (height * width))
        images, nouns, colors, labels, masks = [], [], [], [], []
        for row in rng.choice(len(chunk), count, replace=False):
            image, index_map, segments = chunk.images[row], chunk.index_maps[row], chunk.segments[row]
            if windows:
                part = draw_window(index_map, segments, config.crop, rng)
                image, index_map = image[part], index_map[part]
            if rng.random() < 0.5:  # scenes have no left and right that a label names
                image, index_map = image[:, ::-1], index_map[:, ::-1]
            images.append(image)
            noun, color = token_targets(index_map, segments, PATCH)
            nouns.append(noun)
            colors.append(color)
            if len(labels) < config.decoded * count:
                shares = np.bincount(index_map.ravel(), minlength=len(segments)) / index_map.size
                drawn = draw_labels(segments, shares, config.labels, rng)
                labels.append([self.rows[label] for label in drawn])
                masks.append(np.stack([mask_of(label, segments, index_map) for label in drawn]))
        window = random_window(self.size, images[0].shape[:2], rng)
        device = share.device
        nouns, colors, rows, masks = (torch.from_numpy(np.stack(x)).to(device) for x in (nouns, colors, labels, masks))
        # Balance is gone at half time, so that thresholds end calibrated.
        balance = max(0.0, 1 - 2 * step / self.steps)
        return MaskBatch(to_tensor(np.stack(images), device), nouns, colors, self.table[rows], masks, window, balance)
