"""The ids of labels: the same for as long as a label is wanted, and not given to another at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from synseg_model.folding import case_key

REST_SECONDS = 10.0  # longer than a consumer joins masks with what ids mean
SMALL = 254  # the largest id of a mono8 label map


class LabelIds:
    """Number labels from 1. A label keeps its id while it is in the vocabulary; others get the smallest free ones.

    Args:
        clock: Returns seconds, on a clock that nobody sets back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ids: dict[str, int] = {}
        self._resting: dict[str, tuple[int, float]] = {}  # ids of labels that are gone, and until when they rest

    def assign(self, labels: Sequence[str], rest: bool) -> tuple[int, ...]:
        """Return the ids of the labels of the next vocabulary.

        Args:
            labels: Distinct labels.
            rest: Whether ids of labels that are gone rest for REST_SECONDS, in which only the same label gets them
                back. Where one user replaces all labels at once, nobody is left who could mistake them.
        """
        now = self._clock()
        keys = [case_key(label) for label in labels]
        gone = {key: number for key, number in self._ids.items() if key not in set(keys)}
        self._resting = {key: (number, until) for key, (number, until) in self._resting.items() if until > now}
        if rest:
            self._resting |= {key: (number, now + REST_SECONDS) for key, number in gone.items()}
        kept = {key: self._ids[key] for key in keys if key in self._ids}
        for key in keys:
            if key in self._resting:
                kept[key] = self._resting.pop(key)[0]
        free = self._free(set(kept.values()), len(keys))
        self._ids = {key: kept[key] if key in kept else next(free) for key in keys}
        used = set(self._ids.values())
        self._resting = {key: one for key, one in self._resting.items() if one[0] not in used}
        return tuple(self._ids.values())

    def _free(self, taken: set[int], wanted: int) -> Iterator[int]:
        """Yield ids that are neither taken nor resting; those that have rested longest before ids over SMALL.

        An id over SMALL makes label maps mono16, which some consumers do not read.
        """
        resting = [number for number, _ in self._resting.values()]  # the first has rested longest
        for number in count(1):
            if number > SMALL and wanted <= SMALL:
                break
            if number not in taken and number not in resting:
                yield number
        yield from (number for number in resting if number <= SMALL and number not in taken)
        yield from (number for number in count(SMALL + 1) if number not in taken and number not in resting)
