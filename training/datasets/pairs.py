"""Images with the labels of their captions: what training without masks reads, wherever the images lie."""

from __future__ import annotations

import io
import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import IterableDataset
from webdataset.utils import pytorch_worker_info

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

NAMED = 3  # damages of a kind that the warning names
UNKNOWN = 255  # region of a pixel that none has


class Regions(NamedTuple):
    """Which label has which pixels.

    Attributes:
        index_map: (H,W) uint8 indices into `names`, UNKNOWN where no label has the pixel.
        names: labels.
    """

    index_map: np.ndarray
    names: list[str]


class Pair(NamedTuple):
    """An image with the labels of one of its captions.

    Attributes:
        image: (H,W,3) uint8 RGB.
        labels: of the caption, each once.
        regions: which label has which pixels, where that is known.
        known: all labels that the image has by any of its captions, where there are more captions.
    """

    image: np.ndarray
    labels: list[str]
    regions: Regions | None = None
    known: Sequence[str] = ()


class Damages:
    """Count what had to be left out, and remember where the first of each kind were."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def note(self, kind: str, place: str, count: int = 1) -> None:
        """Count a damage of a kind, at a place that a person can find again."""
        self.counts[kind] += count
        places = self.places.setdefault(kind, [])
        if len(places) < NAMED:
            places.append(place)

    def __str__(self) -> str:
        """Name the kinds with their counts and first places."""
        return "; ".join(f"{count} x {kind} ({', '.join(self.places[kind])})" for kind, count in self.counts.items())


class Pairs(IterableDataset[Pair]):
    """Pairs in an order that depends on the seed and the epoch, split among nodes and workers of a DataLoader.

    A node is one process of distributed training, as in webdataset. Nodes get about as many pairs each, not exactly as
    many: count steps, so that no node waits for another at the end of an epoch.

    A second iteration gives the same epoch again. Call `set_epoch` before each epoch, as for a DistributedSampler, and
    leave the DataLoader's persistent_workers off: its copies would not see the new epoch.

    Damaged images and files are left out. A worker logs one warning at the end of its epoch that counts them.

    Example:
        >>> pairs = CocoCaptions("train2017", "captions_train2017.json")
        >>> for epoch in range(3):
        ...     pairs.set_epoch(epoch)
        ...     for image, labels, *_ in pairs:
        ...         ...

    Attributes:
        size: pairs of an epoch, of all nodes together.
        seed: of the order.
        epoch: the one that the next iteration gives.
    """

    size: int

    def __init__(self, seed: int) -> None:
        """Begin with epoch 0.

        Args:
            seed: of the order.
        """
        self.seed = seed
        self.epoch = 0
        self.skip = 0
        self.node: tuple[int, int] | None = None

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch that the next iteration gives, and where in it to begin.

        Args:
            epoch: 0 or more.
            skip: pairs that this node has seen of it. They are read and dropped, so that the rest comes in the order in
                which it would have come. With as many workers as before it is the very rest where `skip` is a multiple
                of batch size times workers; else up to a batch of each worker is seen twice or missed.

        Raises:
            ValueError: a number is negative.
        """
        if epoch < 0 or skip < 0:
            raise ValueError(f"epoch {epoch}, skip {skip}: both must be 0 or more")
        self.epoch, self.skip = epoch, skip

    def __iter__(self) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch."""
        _, _, worker, workers = self.place()
        skip = self.skip // workers + (worker < self.skip % workers)
        damages = Damages()
        yield from islice(self.read(damages), skip, None)
        if damages.counts:
            logger.warning("%s, epoch %d: left out %s", type(self).__name__, self.epoch, damages)

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch and note what is damaged."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, object]:
        """Tell a spawned worker which node it belongs to: it is none of torch.distributed's processes."""
        return {**self.__dict__, "node": self.place()[:2]}

    def place(self) -> tuple[int, int, int, int]:
        """Return this node's rank, the number of nodes, this worker's number in the node and the number of workers."""
        rank, nodes, worker, workers = pytorch_worker_info()
        return *(self.node or (rank, nodes)), worker, workers

    def share(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield what of `items` falls to this node and this worker."""
        rank, nodes, worker, workers = self.place()
        return islice(items, rank + nodes * worker, None, nodes * workers)

    def rng(self, *parts: int) -> random.Random:
        """Return a generator that depends on the seed, the epoch and `parts` alone."""
        return random.Random(repr((self.seed, self.epoch, *parts)))


def decode_image(source: bytes | Path) -> np.ndarray:
    """Decode an image.

    Args:
        source: a file, or the content of one.

    Returns:
        (H,W,3) uint8 RGB, not turned as EXIF may ask.

    Raises:
        ValueError: it is no image, is cut short or is too large to be one.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # of broken PNGs: a SyntaxError
        raise ValueError(f"no readable image: {error}") from error
