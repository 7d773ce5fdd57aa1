"""Generated scenes with the labels of their captions: what training reads where there is no data set at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.captions.clean import clean_caption
from training.captions.extraction import extract_labels
from training.captions.stop_words import stop_list
from training.captions.taggers import load_tagger
from training.datasets.pairs import Damages, Pair, Pairs
from training.scenes.pool import PoolConfig, build_pool, read_chunk


class ScenePairs(Pairs):
    """Every scene once an epoch, with the labels of one of its captions, drawn by seed and epoch.

    Labels come from the captions by the same extraction as those of the web. Nodes take every so many-th scene of one
    order, so that any number of processes sees the same batches.

    Attributes:
        size: scenes in an epoch of all nodes together, without those that have no caption with enough labels.
    """

    def __init__(self, pool: PoolConfig, cache: str | Path, min_labels: int = 2, seed: int = 0) -> None:
        """Render what is missing of the pool under `cache` and extract the labels of all its captions.

        Raises:
            ValueError: no caption has `min_labels` labels.
        """
        super().__init__(seed)
        chunks = [read_chunk(path) for path in build_pool(pool, Path(cache))]
        self.images = np.concatenate([chunk.images for chunk in chunks])
        captions = np.concatenate([chunk.captions for chunk in chunks])
        self.labels = _extract(captions.ravel().tolist(), captions.shape[1])
        self.labels = [[labels for labels in scene if len(labels) >= min_labels] for scene in self.labels]
        self.order = [row for row, captions in enumerate(self.labels) if captions]
        self.size = len(self.order)
        if not self.order:
            raise ValueError(f"none of the {len(self.labels)} scenes has a caption with {min_labels} labels")

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch."""
        rng = self.rng()
        chosen = [(row, rng.choice(self.labels[row])) for row in self.order]
        rng.shuffle(chosen)
        for row, labels in self.share(chosen):
            yield Pair(self.images[row], list(labels))


def _extract(captions: list[str], per_scene: int) -> list[list[list[str]]]:
    cleaned = (clean_caption(caption) for caption in captions)
    tagged = load_tagger().tag(tqdm(cleaned, total=len(captions), desc="labels of captions", unit="caption"))
    stop = stop_list()
    labels = [extract_labels(words, stop) for words in tagged]
    return [labels[start : start + per_scene] for start in range(0, len(labels), per_scene)]
