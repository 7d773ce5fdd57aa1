"""Pairs that tests tell apart by their colour, in a file of its own: processes that read them import nothing else."""

from collections.abc import Iterator

import numpy as np

from training.datasets.pairs import Damages, Pair, Pairs


class Numbered(Pairs):
    """Images of one colour each, whose labels say which."""

    def __init__(self, size: int = 24, damaged: int = 0):
        super().__init__(seed=3)
        self.size, self.damaged = size, damaged

    def read(self, damages: Damages) -> Iterator[Pair]:
        order = list(range(self.damaged, self.size))
        self.rng().shuffle(order)
        for number in self.share(order):
            yield Pair(np.full((16, 24, 3), number, np.uint8), [f"thing{number}", f"ball{number}", f"car{number}"])
