"""What a batch shows of a pair: image or window, labels and regions. Processes that only read need no network."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import IterableDataset

from training.captions.extraction import head_noun
from training.datasets.pairs import UNKNOWN, Pair, Pairs, Regions
from training.datasets.windows import window_around

LEAST_SHARE = 0.004  # of an image or window: a region that covers less is neither asked for nor said to be absent


@dataclass
class BatchConfig:
    """What an image and its labels become.

    Args:
        image_size: side of the square images in pixels. 0 leaves images as they are, if they all have one size.
        least_crop: smallest share of an image's area that a random crop keeps, above 0 and up to 1. The crop is
            stretched to the square.
        flip: mirror half of the images. Labels never hold "left" or "right": the stop list drops both words.
        labels: most labels of a caption, 2 or more. Longer captions lose random labels.
        absent: labels of other images that each image is shown as absent (ours; the paper has none).
        window: side in pixels of the windows that are shown of images with regions; 0 shows whole images. Two thirds of
            the windows lie around a region, mostly a small one. Things are as large in them as in the whole image, for
            a fraction of the work.
        workers: processes that read and decode; 0 reads in the training process.
    """

    image_size: int = 224
    least_crop: float = 0.7
    flip: bool = True
    labels: int = 6
    absent: int = 0
    window: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.window and self.image_size:
            raise ValueError(f"window is {self.window} and image_size {self.image_size}: one of them must be 0")
        if self.labels < 2:
            raise ValueError(f"labels is {self.labels}: MCCL compares labels of one image and needs 2 or more")
        if not 0 < self.least_crop <= 1:
            raise ValueError(f"least_crop is {self.least_crop}: expected a share of the area, above 0 and up to 1")


class Sample(NamedTuple):
    """What a batch shows of a pair.

    Attributes:
        image: (H,W,3) uint8 RGB.
        labels: that are shown as present.
        known: all labels that the image may have.
        regions: of the image, where they are known.
        whole: (height, width) of the image that `image` is a window of.
    """

    image: np.ndarray
    labels: list[str]
    known: list[str]
    regions: Regions | None
    whole: tuple[int, int]


class Augmented(IterableDataset):
    """Pairs after augmentation. What is drawn for one depends on seed, epoch and image, not on who reads it."""

    def __init__(self, pairs: Pairs, config: BatchConfig):
        self.pairs, self.config = pairs, config

    def __iter__(self) -> Iterator[Sample]:
        for pair in self.pairs:
            yield self.augment(pair)

    def augment(self, pair: Pair) -> Sample:
        """Crop, flip and shrink an image and choose among its labels."""
        config = self.config
        mark = zlib.crc32(np.ascontiguousarray(pair.image[::7, ::7]).tobytes())
        rng = random.Random(repr((self.pairs.seed, self.pairs.epoch, mark, pair.labels)))
        image, regions = pair.image, pair.regions
        index_map = None if regions is None else regions.index_map
        height, width = whole = image.shape[:2]
        if config.image_size:
            side = rng.uniform(config.least_crop, 1) ** 0.5
            rows, columns = max(1, round(height * side)), max(1, round(width * side))
            top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
            window, size = np.s_[top : top + rows, left : left + columns], (config.image_size, config.image_size)
            image = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA)
            if regions is not None:
                index_map = cv2.resize(index_map[window], size, interpolation=cv2.INTER_NEAREST)
        elif config.window and regions is not None:
            window = draw_window(index_map, config.window, rng)
            image, index_map = image[window], index_map[window]
        if config.flip and rng.random() < 0.5:
            image = image[:, ::-1]
            index_map = None if regions is None else index_map[:, ::-1]
        labels, known = pair.labels, [*dict.fromkeys([*pair.labels, *pair.known])]
        if regions is not None:
            regions = Regions(np.ascontiguousarray(index_map), regions.names)
            known = [*dict.fromkeys([*regions.names, *map(head_noun, regions.names)])]
            labels = shown_labels(regions)
        if len(labels) > config.labels:
            labels = [labels[i] for i in sorted(rng.sample(range(len(labels)), config.labels))]
        return Sample(np.ascontiguousarray(image), labels, known, regions, whole)


def draw_window(index_map: np.ndarray, side: int, rng: random.Random) -> tuple[slice, slice]:
    """Choose a square window of a map (H,W): anywhere, or so that it holds the middle of a region near its own.

    Things are smaller than what is behind them, and need the windows more: a region is drawn by one over its area.
    """
    height, width = index_map.shape
    rows, columns = min(side, height), min(side, width)
    top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
    areas = np.bincount(index_map.ravel(), minlength=UNKNOWN + 1)[:UNKNOWN]
    shown = [int(index) for index in np.flatnonzero(areas >= LEAST_SHARE * index_map.size)]
    if shown and rng.random() < 2 / 3:
        (region,) = rng.choices(shown, [1 / areas[index] for index in shown])
        return window_around(index_map == region, side, [rng.uniform(-0.3, 0.3) for _ in range(2)])
    return slice(top, top + rows), slice(left, left + columns)


def shown_labels(regions: Regions) -> list[str]:
    """List the labels of which a map shows enough, each name and each noun of a name once."""
    counts = np.bincount(regions.index_map.ravel(), minlength=UNKNOWN + 1)
    names = [name for name, count in zip(regions.names, counts, strict=False)
             if count >= LEAST_SHARE * regions.index_map.size]  # fmt: skip
    return [*dict.fromkeys([*names, *map(head_noun, names)])]
