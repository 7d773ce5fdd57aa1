"""From pairs of images and labels to batches, in an order that the step alone decides.

Of pairs with regions (`training.datasets.caption_masks`) a batch shows images or windows of them. Its present labels
have pixels there: each is the caption's phrase or its noun alone. Its absent labels have none.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice, repeat
from multiprocessing.context import BaseContext

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from synseg_model.config import ImageConfig
from training.captions.extraction import head_noun
from training.datasets.arrays import to_tensor
from training.datasets.augmentation import Augmented, BatchConfig, Sample
from training.datasets.pairs import UNKNOWN, Pairs, Regions
from training.loop.trainer import Share
from training.objective.batch import Batch, Window


def mask_of(label: str, regions: Regions) -> np.ndarray:
    """Return the pixels (H,W) bool of the regions that a label names: by their name, or by its noun alone."""
    rows = np.zeros(UNKNOWN + 1, bool)
    rows[: len(regions.names)] = [label in (name, head_noun(name)) for name in regions.names]
    return rows[regions.index_map]


def add_absent(
    labels: list[list[str]], count: int, rng: random.Random, words: Callable[[str], list[str]] = str.split
) -> list[list[str]]:
    """Draw absent labels for each image: labels of the other images that share no word with its own.

    Args:
        labels: all labels that each image may have.
        count: most labels that are drawn for an image.
        rng: draws them.
        words: returns the words of a label that count.

    Returns:
        The drawn labels of each image.
    """
    drawn = []
    for own in labels:
        taken = {word for label in own for word in words(label)}
        others = sorted({label for other in labels for label in other if taken.isdisjoint(words(label))})
        drawn.append(rng.sample(others, min(count, len(others))))
    return drawn


def _fresh_processes() -> BaseContext:
    """Return how workers start: without the threads of this process, beside which a forked one could wait forever.

    Every epoch starts its workers anew, and each of them runs the imports of the program that is run. So a server that
    has imported them forks the workers, where there is one: torch and its like take seconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    program = getattr(sys.modules["__main__"].__spec__, "name", "")
    package = f"{__name__.partition('.')[0]}."
    imported = [name for name in sys.modules if name.startswith(package) and name != program]
    context.set_forkserver_preload(imported if program.startswith(package) else [Augmented.__module__])
    return context


def _noun_of(label: str) -> list[str]:
    return [head_noun(label)]


class BatchSource:
    """Make the batches of any process from any step on.

    Example:
        >>> batches = BatchSource(pairs, BatchConfig(image_size=224), network.config.image, TextEmbedder(network))
        >>> batch = batches.first(16, torch.device("cpu"))
        >>> batch.images.shape, batch.text.shape, batch.present.shape
        (torch.Size([16, 3, 224, 224]), torch.Size([16, 6, 512]), torch.Size([16, 6]))
    """

    def __init__(self, pairs: Pairs, config: BatchConfig, image: ImageConfig, text: Callable[[list[str]], Tensor]):
        """Take a data set and how it is shown.

        Args:
            pairs: the data set.
            config: what an image and its labels become.
            image: mean and standard deviation that the network expects.
            text: embeds labels, (N,C) float32.
        """
        self.pairs, self.config, self.image, self.text = pairs, config, image, text

    def __call__(self, share: Share) -> Iterator[list[Batch]]:
        """Yield the parts of each step for one process, without end.

        Args:
            share: which process, from which step on, and how large a batch is.

        Raises:
            ValueError: an epoch holds less than a batch.
        """
        local = share.batch // share.world
        size = local // share.parts
        steps = self.pairs.size // share.batch
        if not steps:
            raise ValueError(f"the data holds {self.pairs.size} labelled images: fewer than a batch of {share.batch}")
        epoch, within = divmod(share.start, steps)
        step = share.start
        while True:
            groups = self._groups(epoch, within * share.parts, size)
            for _ in range(within, steps):
                rng = random.Random(repr((self.pairs.seed, step, share.rank)))
                yield [self._part(group, rng, share.device) for group in islice(groups, share.parts)]
                step += 1
            epoch, within = epoch + 1, 0

    def first(self, count: int, device: torch.device) -> Batch:
        """Return the first `count` images of the first epoch: the same for every process, whatever its share."""
        return next(self(Share(0, 1, 0, count, 1, device)))[0]

    def _groups(self, epoch: int, done: int, size: int) -> Iterator[list[Sample]]:
        """Yield the epoch's groups of `size` pairs without the first `done`, over again where damage left too few."""
        workers = self.config.workers
        lead = done % max(1, workers)  # workers take turns, and the first of a fresh loader is always the same one
        self.pairs.set_epoch(epoch, (done - lead) * size)
        loader = DataLoader(
            Augmented(self.pairs, self.config),
            batch_size=size,
            drop_last=True,
            num_workers=workers,
            collate_fn=list,
            multiprocessing_context=_fresh_processes() if workers else None,
        )
        return islice(chain(loader, self._again(loader, epoch)), lead, None)

    def _again(self, loader: DataLoader, epoch: int) -> Iterator[list[Sample]]:
        for _ in repeat(None):
            self.pairs.set_epoch(epoch)
            count = 0
            for group in loader:
                count += 1
                yield group
            if not count:
                raise ValueError("the data gave no batch in a whole epoch: all of it is damaged, or a process has none")

    def _absent_nouns(self, samples: list[Sample], rng: random.Random) -> list[list[str]]:
        """Draw absent labels for images whose regions all have names: two thirds are nouns alone, a third phrases.

        A vocabulary has many nouns; phrases would be most of the draws otherwise.
        """
        few = self.config.absent // 3
        known = [sample.known for sample in samples]
        phrases = add_absent([[x for x in labels if " " in x] for labels in known], few, rng, _noun_of)
        taken = [[head_noun(label) for label in labels] for labels in known]
        nouns = add_absent(taken, self.config.absent - few, rng)
        clean = [[x for x in drawn if head_noun(x) not in own] for drawn, own in zip(phrases, taken, strict=True)]
        return [more + less for more, less in zip(nouns, clean, strict=True)]

    def _part(self, samples: list[Sample], rng: random.Random, device: torch.device) -> Batch:
        shapes = {sample.image.shape for sample in samples}
        if len(shapes) > 1:
            raise ValueError(f"images of several sizes {sorted(shapes)[:3]} in a batch: set batches.image_size")
        # Of what the caption names and `labels` left out, nothing is absent. Where all that an image shows has a name,
        # another noun is absent in whatever colour.
        if samples[0].regions is None:
            absent = add_absent([sample.known for sample in samples], self.config.absent, rng)
        else:
            absent = self._absent_nouns(samples, rng)
        named = [sample.labels + others for sample, others in zip(samples, absent, strict=True)]
        width = max(1, *map(len, named))
        valid, present = (torch.zeros(len(samples), width, dtype=torch.bool) for _ in range(2))
        for row, (sample, labels) in enumerate(zip(samples, named, strict=True)):
            valid[row, : len(labels)] = True
            present[row, : len(sample.labels)] = True
        flat = [label for labels in named for label in [*labels, *[""] * (width - len(labels))]]
        text = self.text(flat).unflatten(0, (len(samples), width))
        images = to_tensor(np.stack([sample.image for sample in samples]), device, self.image.mean, self.image.std)
        part = Batch(images, text, valid.to(device), present.to(device), named)
        if samples[0].regions is None:
            return part
        masks = np.zeros((len(samples), width, *images.shape[2:]), bool)
        for row, (sample, labels) in enumerate(zip(samples, named, strict=True)):
            masks[row, : len(labels)] = [mask_of(label, sample.regions) for label in labels]
        known = np.stack([sample.regions.index_map != UNKNOWN for sample in samples])
        window = Window(samples[0].whole, (rng.random(), rng.random())) if self.config.window else None
        masks, known = (torch.from_numpy(array).to(device) for array in (masks, known))
        return replace(part, masks=masks, known=known, window=window)
