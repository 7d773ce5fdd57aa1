"""What a step of training on photographs sees: crops, and names that are present or absent in each.

Every sample is a function of the seed and of its number alone, so a run goes on exactly where it stopped, whatever the
number of loader processes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.datasets.photos import UNLABELLED, PhotoError
from training.datasets.photos.packed import Packed
from training.loop.trainer import Share
from training.objective.batch import PhotoBatch

REGIONS = 256  # of an index map: 255 regions and UNLABELLED
DRAWS = 10  # of a sample until a photograph decodes
BORDER = 127  # grey around an image where a crop reaches beyond it


@dataclass
class MixtureConfig:
    """How photographs become samples.

    Args:
        size: side of the square crops in pixels, a multiple of 32 from 64.
        zoom: smallest and largest short side of an image, in crops. It is drawn evenly by its logarithm.
        stretch: largest ratio by which one side is stretched, 1 or more.
        around: share of the crops with masks that lie around a region, mostly a small one.
        names: names of a sample, present and absent together.
        present: most present names of a sample, 1 or more and fewer than `names`.
        other_words: share of the names that are said with another word for the same thing, where the table of synonyms
            has one.
        unlike: largest cosine of an absent name and each present one, in images without masks.
        weights: how often each data set is drawn.
        hidden: names whose masks are hidden. Their pixels count as unlabelled, and they are never absent in images with
            masks. So a run measures what captions alone teach of them.
        workers: processes that read and decode; 0 reads in the training process.
    """

    size: int = 288
    zoom: tuple[float, float] = (0.9, 2.2)
    stretch: float = 1.2
    around: float = 0.5
    names: int = 18
    present: int = 11
    other_words: float = 0.5
    unlike: float = 0.45
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "nyu": 0.30, "flickr8k": 0.22, "voc": 0.18, "clothing": 0.07, "camvid": 0.09, "caltech101": 0.05,
            "imagenet": 0.04, "coco": 0.05,
        }
    )  # fmt: skip
    hidden: tuple[str, ...] = ()
    workers: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.present < self.names:
            most = self.names - 1
            raise ValueError(f"present is {self.present}: expected 1 to {most}, so that some names are absent")
        if self.size % 32 or self.size < 64:
            raise ValueError(f"size is {self.size}: expected a multiple of 32 from 64 on")
        if not self.weights or min(self.weights.values()) < 0 or not max(self.weights.values()) > 0:
            raise ValueError(f"weights are {self.weights}: expected none below 0 and one above")


class Words:
    """The names of training, other words for them, and what each is similar to.

    Attributes:
        names: every word that a sample may show, and the row of its embedding.
        texts: (N,C) float32 embeddings of length 1.
    """

    def __init__(
        self,
        names: Sequence[str],
        texts: np.ndarray,
        others: dict[str, list[str]],
        narrower: dict[str, list[str]] | None = None,
    ):
        """Take the embeddings of all names. Words of the tables that have none are left out.

        Args:
            names: every word that a sample may show.
            texts: (N,C) their embeddings, of length 1.
            others: other words for the same thing, by name.
            narrower: words for some of what a name means, by name, which a set does not tell apart ("woman" for a
                person). They may say that a thing is there, never that it is not.
        """
        self.names = {name: row for row, name in enumerate(names)}
        self.texts = texts.astype(np.float32)
        self.others, self.narrower = (
            {
                name: kept
                for name, words in table.items()
                if name in self.names and (kept := [word for word in words if word in self.names])
            }
            for table in (others, narrower or {})
        )

    def say(
        self, name: str, present: bool, share: float, classes: Collection[str], rng: np.random.Generator
    ) -> int:
        """Return the row of a name, or sometimes of another word for it.

        Args:
            name: what is said.
            present: whether the image shows it. One in four other words may then be narrower.
            share: of the cases in which another word is taken, from 0 to 1.
            classes: names that the set tells apart. They mean only themselves there ("rug" beside "carpet").
            rng: draws the word.

        Returns:
            A row of `texts`.
        """
        if rng.random() < share:
            narrower = self.narrower.get(name) if present and rng.random() < 0.25 else None
            others = [word for word in narrower or self.others.get(name, ()) if word not in classes]
            if others:
                name = others[rng.integers(len(others))]
        return self.names[name]

    def family(self, name: str) -> set[str]:
        """Return a name with all other words for it, narrower ones too."""
        return {name, *self.others.get(name, ()), *self.narrower.get(name, ())}


class PhotoSample(NamedTuple):
    """One crop.

    Attributes:
        image: (S,S,3) uint8 RGB.
        index_map: (S,S) uint8 indices into the columns of `covers`, UNLABELLED where nothing is known.
        names: (K,) rows of the word table.
        covers: (K,256) bool, whether a name is true of a region.
        present: (K,) bool, whether a name is in the crop, or in the whole image where there are no masks.
        valid: (K,) bool, whether there is a name; the other places are padding.
        masked: whether there are masks.
        damaged: photographs that were drawn before this one and cannot be read, and why.
    """

    image: np.ndarray
    index_map: np.ndarray
    names: np.ndarray
    covers: np.ndarray
    present: np.ndarray
    valid: np.ndarray
    masked: bool
    damaged: tuple[str, ...] = ()


class Mixture(Dataset):
    """Samples by their number, drawn from packed photographs by weights."""

    def __init__(
        self,
        photos: Sequence[Packed],
        exhaustive: dict[str, Sequence[str]],
        words: Words,
        config: MixtureConfig,
        seed: int,
    ):
        self.config, self.words, self.seed = config, words, seed
        self.sets: dict[str, list[Packed]] = {}
        for photo in photos:
            self.sets.setdefault(photo.set, []).append(photo)
        weights = {name: weight for name, weight in config.weights.items() if name in self.sets and weight}
        if not weights:
            packed = ", ".join(self.sets) or "none"
            raise ValueError(f"weights are {config.weights}: expected one above 0 of a set that is packed: {packed}")
        self.order = list(weights)
        self.shares = np.cumsum(list(weights.values())) / sum(weights.values())
        hidden = set(config.hidden)
        foreign = sorted(hidden - {name for names in exhaustive.values() for name in names})
        if foreign:
            raise ValueError(f"hidden names {', '.join(foreign)}: no set labels them, so no mask of them can be hidden")
        self.exhaustive = {
            name: [n for n in exhaustive.get(name, ()) if n in words.names and n not in hidden] for name in self.sets
        }
        self.classes = {name: set(exhaustive.get(name, ())) for name in self.sets}
        counts = Counter(name for photo in photos if photo.kind != "masks" for name in photo.names)
        self.pool = sorted(name for name in counts if name in words.names)  # absent names of images without masks
        frequency = np.array([counts[name] for name in self.pool], float) ** 0.5
        self.pool_shares = frequency / frequency.sum() if len(frequency) else frequency

    def __getitem__(self, number: int) -> PhotoSample:
        """Return a sample; a photograph that is damaged is named in `damaged`, and the next draw takes its place."""
        damaged: list[str] = []
        for draw in range(DRAWS):
            rng = np.random.default_rng((self.seed, number, draw))
            photos = self.sets[self.order[int(np.searchsorted(self.shares, rng.random(), side="right"))]]
            photo = photos[rng.integers(len(photos))]
            try:
                return self._sample(photo, rng)._replace(damaged=tuple(damaged))
            except PhotoError as error:
                damaged.append(str(error))
        raise PhotoError(f"{DRAWS} photographs in a row cannot be read: {'; '.join(damaged[:3])}")

    def _sample(self, photo: Packed, rng: np.random.Generator) -> PhotoSample:
        image, index_map = photo.decode()
        config, words = self.config, self.words
        if config.hidden and photo.kind == "masks":
            keep = [not set(config.hidden) & set(names) for names in photo.regions]
            table = np.full(REGIONS, UNLABELLED, np.uint8)
            table[: len(keep)] = np.where(keep, np.arange(len(keep)), UNLABELLED)
            index_map = table[index_map]
        image, index_map = self._crop(image, index_map, rng)
        if photo.kind == "masks":
            counts = np.bincount(index_map.ravel(), minlength=REGIONS)
            regions = [names if counts[i] else () for i, names in enumerate(photo.regions)]
            areas: Counter[str] = Counter()
            for names, count in zip(regions, counts, strict=False):
                areas.update({name: int(count) for name in names if name in words.names})
            shown = [name for name, area in areas.items() if area >= 0.001 * index_map.size]
            taken = set().union(*(words.family(name) for name in areas)) if areas else set()
            pool = [name for name in self.exhaustive[photo.set] if not taken & words.family(name)]
            absent = [pool[i] for i in rng.permutation(len(pool))]
        else:
            regions = []
            shown = [name for name in photo.names if name in words.names]
            absent = self._unlike(shown, rng)
        present = [shown[i] for i in rng.permutation(len(shown))[: config.present]]
        names = [*present, *absent[: config.names - len(present)]]
        rows = np.zeros(config.names, np.int64)
        covers = np.zeros((config.names, REGIONS), bool)
        for k, name in enumerate(names):
            rows[k] = words.say(name, k < len(present), config.other_words, self.classes[photo.set], rng)
            covers[k, : len(regions)] = [name in region for region in regions]
        place = np.arange(config.names)
        shown, valid = place < len(present), place < len(names)
        return PhotoSample(image, index_map, rows, covers, shown, valid, photo.kind == "masks")

    def _unlike(self, shown: list[str], rng: np.random.Generator) -> list[str]:
        """Draw names that are like none of those shown."""
        if not self.pool or not shown:
            return []
        count = min(4 * self.config.names, np.count_nonzero(self.pool_shares))
        drawn = [self.pool[i] for i in rng.choice(len(self.pool), count, replace=False, p=self.pool_shares)]
        texts = self.words.texts
        similar = texts[[self.words.names[n] for n in drawn]] @ texts[[self.words.names[n] for n in shown]].T
        return [name for name, alike in zip(drawn, similar.max(axis=1), strict=True) if alike < self.config.unlike]

    def _crop(
        self, image: np.ndarray, index_map: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Zoom, stretch, cut and flip an image and its index map to (S,S)."""
        config, (height, width) = self.config, image.shape[:2]
        size = config.size
        zoom = math.exp(rng.uniform(*np.log(config.zoom)))
        stretch = math.exp(rng.uniform(-1, 1) * math.log(config.stretch) / 2)
        scale = size * zoom / min(height, width)
        rows, columns = (max(1, round(size / (scale * s))) for s in (stretch, 1 / stretch))  # of the image
        spare = [height - rows, width - columns]
        top, left = (int(rng.integers(min(0, s), max(0, s) + 1)) for s in spare)
        if index_map is not None and rng.random() < config.around:
            counts = np.bincount(index_map.ravel(), minlength=REGIONS)[:UNLABELLED]
            held = np.flatnonzero(counts)
            if len(held):
                share = counts[held] ** -0.5
                region = rng.choice(held, p=share / share.sum())
                inside = np.flatnonzero(index_map.ravel() == region)
                y, x = divmod(int(inside[rng.integers(len(inside))]), width)
                top = _near(y - int(rng.uniform(0.2, 0.8) * rows), spare[0])
                left = _near(x - int(rng.uniform(0.2, 0.8) * columns), spare[1])
        flip = rng.random() < 0.5
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        window = _window(image, top, left, rows, columns, size, BORDER, interpolation)
        if index_map is None:
            labels = np.full((size, size), UNLABELLED, np.uint8)
        else:
            labels = _window(index_map, top, left, rows, columns, size, UNLABELLED, cv2.INTER_NEAREST)
        if flip:
            window, labels = window[:, ::-1], labels[:, ::-1]
        return np.ascontiguousarray(window), np.ascontiguousarray(labels)


def _near(start: int, spare: int) -> int:
    """Move a window's start to where it shows as much of the image as it can."""
    return min(max(start, min(0, spare)), max(0, spare))


def _window(
    image: np.ndarray, top: int, left: int, rows: int, columns: int, size: int, border: int, interpolation: int
) -> np.ndarray:
    """Cut a window that may reach beyond the image and resize it to (size,size)."""
    height, width = image.shape[:2]
    y0, y1, x0, x1 = max(0, top), min(height, top + rows), max(0, left), min(width, left + columns)
    ys, xs = size / rows, size / columns
    v0, v1, u0, u1 = round((y0 - top) * ys), round((y1 - top) * ys), round((x0 - left) * xs), round((x1 - left) * xs)
    out = np.full((size, size, *image.shape[2:]), border, np.uint8)
    if v1 > v0 and u1 > u0:
        out[v0:v1, u0:u1] = cv2.resize(image[y0:y1, x0:x1], (u1 - u0, v1 - v0), interpolation=interpolation)
    return out


class PhotoBatches:
    """Batches for the Trainer: samples are read by other processes, colours are changed on the device."""

    def __init__(self, mixture: Mixture, mean: Sequence[float], std: Sequence[float], noise: float, steps: int):
        """Take the samples and how they become tensors.

        Args:
            mixture: the samples.
            mean: mean of the channels, in [0, 1].
            std: their standard deviation, in [0, 1].
            noise: largest length, as a share of a text's, of random moves of half of the texts.
            steps: of the whole run.
        """
        self.mixture, self.noise, self.steps = mixture, noise, steps
        self.mean, self.std = mean, std
        self.damages: Counter[str] = Counter()

    def __call__(self, share: Share) -> Iterator[list[PhotoBatch]]:
        """Yield the parts of each step for one process.

        Args:
            share: which process, from which step on, and how large a batch is.
        """
        config = self.mixture.config
        own = share.batch // share.world
        first, stop = share.start * share.batch, self.steps * share.batch
        begins = range(first + own * share.rank, stop, share.batch)
        numbers = [number for begin in begins for number in range(begin, begin + own)]
        # With a generator of its own the loader draws nothing from torch's, and so the first step of a run that goes on
        # draws what it drew in the unbroken run.
        loader = DataLoader(
            self.mixture, own // share.parts, sampler=numbers, collate_fn=collate, num_workers=config.workers,
            pin_memory=share.device.type == "cuda", prefetch_factor=4 if config.workers else None,
            generator=torch.Generator(),
        )  # fmt: skip
        texts = torch.from_numpy(self.mixture.words.texts).to(share.device)
        parts = iter(loader)
        for _ in range(share.start, self.steps):
            yield [self.on_device(next(parts), texts, share.device) for _ in range(share.parts)]

    def on_device(self, sample: dict, texts: Tensor, device: torch.device) -> PhotoBatch:
        """Move a collated part to the device, change colours and move texts; draws from torch's generator."""
        self.damages.update(sample["damaged"])
        moved = {name: value.to(device, non_blocking=True) for name, value in sample.items() if name != "damaged"}
        images = change_colors(moved["image"].permute(0, 3, 1, 2).float() / 255)
        mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))
        text = move_texts(texts[moved["names"]], self.noise)
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        rest = (moved[name] for name in ("covers", "present", "valid", "masked"))
        return PhotoBatch(images, moved["index_map"], text, *rest)


def collate(samples: list[PhotoSample]) -> dict:
    """Stack samples; images stay bytes, which travel between processes in a quarter of the time of floats."""
    stacked = {
        name: torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
        for name in ("image", "index_map", "names", "covers", "present", "valid")
    }
    stacked["masked"] = torch.tensor([sample.masked for sample in samples])
    stacked["damaged"] = [problem for sample in samples for problem in sample.damaged]
    return stacked


def change_colors(images: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and colour balance of images (B,3,H,W) in [0, 1], each image its own."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(len(images), channels, 1, 1, device=images.device).uniform_(low, high)

    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * draw(0.5, 1.4)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + (images - middle) * draw(0.7, 1.3)
    return (images * draw(0.65, 1.3) * draw(0.92, 1.08, 3)).clamp(0, 1)


def move_texts(texts: Tensor, noise: float) -> Tensor:
    """Move half of the embeddings (B,K,C) of length 1 at random, each by up to `noise`: other words lie near a name."""
    if not noise:
        return texts
    much = torch.empty(*texts.shape[:2], 1, device=texts.device).uniform_(-noise, noise).clamp(min=0)
    return torch.nn.functional.normalize(texts + much * torch.randn_like(texts) / texts.shape[-1] ** 0.5, dim=-1)
