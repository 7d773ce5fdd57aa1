"""From pairs of pictures and labels to the parts of a batch, in an order that the step alone decides."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from synseg_model.clip_encoder import ClipEncoder
from synseg_model.config import ImageConfig
from synseg_model.trainer import Share
from training.datasets.pairs import Pair, Pairs
from training.objective import Part

CACHED_LABELS = 200_000  # text embeddings kept: 400 MB at 512 floats each


@dataclass
class BatchConfig:
    """Settings of what a picture and its labels become.

    Args:
        image_size: side in pixels of the square pictures; 0 leaves pictures as they are, if they are all of one size.
        least_crop: pictures are cropped to a random share of their area, from this to 1, and stretched to the square.
        flip: mirror half of the pictures; captions that say left or right lose those words to the stop-list.
        labels: most labels of a caption; of longer captions a random part.
        absent: labels of other pictures that each picture is shown as absent (ours; the paper has none).
        workers: processes that read and decode; 0 reads in the training process itself.
    """

    image_size: int = 224
    least_crop: float = 0.7
    flip: bool = True
    labels: int = 6
    absent: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.labels < 2:
            raise ValueError(f"labels is {self.labels}: MCCL compares labels of one image and needs 2 or more")
        if not 0 < self.least_crop <= 1:
            raise ValueError(f"least_crop is {self.least_crop}: expected a share of the area, above 0 and up to 1")


class Sample(NamedTuple):
    """A picture (H,W,3) uint8 RGB as a batch shows it, the labels shown with it, and all labels of its caption."""

    image: np.ndarray
    labels: list[str]
    caption: list[str]


class Augmented(IterableDataset):
    """Pairs after augmentation. What is drawn for one depends on seed, epoch and picture, not on who reads it."""

    def __init__(self, pairs: Pairs, config: BatchConfig):
        self.pairs, self.config = pairs, config

    def __iter__(self) -> Iterator[Sample]:
        for pair in self.pairs:
            yield self.augment(pair)

    def augment(self, pair: Pair) -> Sample:
        """Crop, flip and shrink a picture and choose among its labels."""
        config = self.config
        mark = zlib.crc32(np.ascontiguousarray(pair.image[::7, ::7]).tobytes())
        rng = random.Random(repr((self.pairs.seed, self.pairs.epoch, mark, pair.labels)))
        image = pair.image
        if config.image_size:
            height, width = image.shape[:2]
            side = rng.uniform(config.least_crop, 1) ** 0.5
            rows, columns = max(1, round(height * side)), max(1, round(width * side))
            top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
            window = image[top : top + rows, left : left + columns]
            image = cv2.resize(window, (config.image_size, config.image_size), interpolation=cv2.INTER_AREA)
        if config.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        labels = pair.labels
        if len(labels) > config.labels:
            labels = [labels[i] for i in sorted(rng.sample(range(len(labels)), config.labels))]
        return Sample(np.ascontiguousarray(image), labels, pair.labels)


class TextBank:
    """Text embeddings of labels, the mean over templates, each computed once."""

    def __init__(self, encoder: ClipEncoder, templates: tuple[str, ...], normalize: bool):
        self.encoder, self.templates, self.normalize = encoder, templates, normalize
        self.known: dict[str, Tensor] = {}

    @torch.no_grad()
    def __call__(self, labels: list[str]) -> Tensor:
        """Return embeddings (len(labels), C) float32 on the encoder's device."""
        device = next(self.encoder.parameters()).device
        if len(self.known) > CACHED_LABELS:
            self.known.clear()
        for label in dict.fromkeys(labels):
            if label not in self.known:
                self.known[label] = self._embed(label, device).cpu()
        return torch.stack([self.known[label] for label in labels]).to(device)

    def _embed(self, label: str, device: torch.device) -> Tensor:
        """Embed one label alone: in a batch its last digits would depend on the others, and so on where a run began."""
        tokens = self.encoder.tokenize([template.format(label) for template in self.templates]).to(device)
        embeddings = self.encoder.encode_text(tokens).float()
        if not self.normalize:
            return embeddings.mean(dim=0)
        mean = torch.nn.functional.normalize(embeddings, dim=-1).mean(dim=0)
        return torch.nn.functional.normalize(mean, dim=-1)


def add_absent(labels: list[list[str]], count: int, rng: random.Random) -> list[list[str]]:
    """Draw for each picture labels of the others that share no word with its own, `count` at most.

    labels: for each picture all that its caption names.
    """
    drawn = []
    for own in labels:
        words = {word for label in own for word in label.split()}
        others = sorted({label for other in labels for label in other if not words & set(label.split())})
        drawn.append(rng.sample(others, min(count, len(others))))
    return drawn


class BatchSource:
    """Make the batches of any process from any step on: `synseg_model.trainer.Batches`."""

    def __init__(self, pairs: Pairs, config: BatchConfig, image: ImageConfig, text: Callable[[list[str]], Tensor]):
        self.pairs, self.config, self.image, self.text = pairs, config, image, text

    def __call__(self, share: Share) -> Iterator[list[Part]]:
        """Yield the parts of each step for one process; raises ValueError where an epoch holds less than a batch."""
        local = share.batch // share.world
        size = local // share.parts
        steps = self.pairs.size // share.batch
        if not steps:
            raise ValueError(f"the data holds {self.pairs.size} labelled pictures: fewer than a batch of {share.batch}")
        epoch, within = divmod(share.start, steps)
        step = share.start
        while True:
            groups = self._groups(epoch, within * share.parts, size)
            for _ in range(within, steps):
                rng = random.Random(repr((self.pairs.seed, step, share.rank)))
                yield [self._part(group, rng, share.device) for group in islice(groups, share.parts)]
                step += 1
            epoch, within = epoch + 1, 0

    def first(self, count: int, device: torch.device) -> Part:
        """Return the first `count` pictures of the first epoch: the same for every process, whatever its share."""
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
            multiprocessing_context="spawn" if workers else None,
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

    def _part(self, pairs: list[Sample], rng: random.Random, device: torch.device) -> Part:
        shapes = {pair.image.shape for pair in pairs}
        if len(shapes) > 1:
            raise ValueError(f"pictures of several sizes {sorted(shapes)[:3]} in a batch: set batches.image_size")
        # Of what the caption names and `labels` left out, nothing is absent.
        absent = add_absent([pair.caption for pair in pairs], self.config.absent, rng)
        width = max(len(pair.labels) + len(others) for pair, others in zip(pairs, absent, strict=True))
        valid, present = (torch.zeros(len(pairs), width, dtype=torch.bool) for _ in range(2))
        flat = []
        for row, (pair, others) in enumerate(zip(pairs, absent, strict=True)):
            labels = pair.labels + others
            flat += labels + [""] * (width - len(labels))
            valid[row, : len(labels)] = True
            present[row, : len(pair.labels)] = True
        text = self.text(flat).unflatten(0, (len(pairs), width))
        images = torch.from_numpy(np.stack([pair.image for pair in pairs])).to(device)
        mean, std = (torch.tensor(x, device=device).view(3, 1, 1) * 255 for x in (self.image.mean, self.image.std))
        images = (images.permute(0, 3, 1, 2).float() - mean) / std
        named = [pair.labels + others for pair, others in zip(pairs, absent, strict=True)]
        return Part(images, text, valid.to(device), present.to(device), named)
