"""Generated scenes with their exact masks, and their place between images whose masks are made of captions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

from training.datasets.pairs import Damages, Pair, Pairs, Regions
from training.scenes.pool import PoolConfig, build_pool, read_chunk


class MaskedScenes(Pairs):
    """Every scene of a pool once an epoch, with a name for every pixel.

    Attributes:
        size: scenes in an epoch.
    """

    def __init__(self, pool: PoolConfig, cache: str | Path, seed: int = 0) -> None:
        """Render what is missing of the pool under `cache`."""
        super().__init__(seed)
        self.chunks = [read_chunk(path) for path in build_pool(pool, Path(cache))]
        self.size = sum(map(len, self.chunks))

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's scenes of the epoch."""
        order = [(chunk, row) for chunk in self.chunks for row in range(len(chunk))]
        self.rng().shuffle(order)
        for chunk, row in self.share(order):
            names = [f"{color} {noun}" if color else noun for noun, color in chunk.segments[row]]
            yield Pair(chunk.images[row], names, Regions(chunk.index_maps[row], names))


class Rehearsed(Pairs):
    """Pairs, and in between, evenly, scenes with exact masks.

    Attributes:
        size: both together.
    """

    def __init__(self, pairs: Pairs, scenes: MaskedScenes) -> None:
        super().__init__(pairs.seed)
        self.pairs, self.scenes = pairs, scenes
        self.size = pairs.size + scenes.size

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch."""
        for part in (self.pairs, self.scenes):
            part.set_epoch(self.epoch)
            part.node = self.node
        scenes = chain.from_iterable(self.scenes.read(damages) for _ in repeat(None))
        due = 0.0
        for pair in self.pairs.read(damages):
            yield pair
            due += self.scenes.size / self.pairs.size
            while due >= 1:
                yield next(scenes)
                due -= 1
