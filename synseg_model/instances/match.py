"""Which objects are the same, where one image was looked at twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synseg_model.folding import case_key
from synseg_model.instances.find import Instance

_SHARE = 0.5  # of the smaller mask's pixels, that must be in the other mask, too


def matching_ids(instances: Sequence[Instance], known: Sequence[Instance], ids: Sequence[int]) -> tuple[int, ...]:
    """Give instances the ids of the same objects among others of the same image.

    Both may have been found with other thresholds, or under other labels that hide a part. An instance is the object
    with its label, in whatever case, that it shares most pixels with: more than half of the smaller mask. No object is
    given twice.

    Args:
        instances: what gets ids.
        known: objects of the same image.
        ids: their ids, from 1.

    Returns:
        One id per instance; 0 where it is none of the objects.
    """
    pairs = []
    names, others = ([case_key(one.label) for one in group] for group in (instances, known))
    for i, one in enumerate(instances):
        for j, other in enumerate(known):
            if names[i] == others[j]:
                shared = _shared(one, other)
                if shared > _SHARE * min(one.area, other.area):
                    pairs.append((-shared, i, j))
    found, given = [0] * len(instances), set()
    for _, i, j in sorted(pairs):
        if not found[i] and j not in given:
            found[i] = ids[j]
            given.add(j)
    return tuple(found)


def _shared(one: Instance, other: Instance) -> int:
    """Count the pixels that are in both masks."""
    left, top = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    right, bottom = (min(one.box[axis] + one.box[axis + 2], other.box[axis] + other.box[axis + 2]) for axis in (0, 1))
    if left >= right or top >= bottom:
        return 0
    cuts = (
        each.mask[top - each.box[1] : bottom - each.box[1], left - each.box[0] : right - each.box[0]]
        for each in (one, other)
    )
    return int(np.count_nonzero(np.logical_and(*cuts)))
