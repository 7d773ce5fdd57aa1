"""Ids that instances keep from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from synseg_model.folding import case_key
from synseg_model.instances.find import Instance

_FADE = 0.5  # seconds after which an unseen object is expected to stand still: a velocity is not known for longer
_SMOOTHING = 0.5  # share of a new measurement in the velocity
_ABSENCE = 0.3  # cost of not having been seen for `keep` seconds, where a box beside the expected one costs 1
_SHORTEST = 1e-3  # seconds between frames from which a velocity can be measured


@dataclass(frozen=True)
class TrackSettings:
    """Say how objects are followed.

    Args:
        keep: seconds for which an object that is not seen keeps its id.
        reach: an object moves at most this many times its own size (the square root of its box) away from where it is
            expected in the next frame. It doubles while the object is not seen, over `keep`.
        change: the box of an object becomes at most this many times larger or smaller from one frame to the next.
        most: objects that are followed at once; those that have not been seen for longest are forgotten first.
    """

    keep: float = 2.0
    reach: float = 1.0
    change: float = 4.0
    most: int = 500

    def __post_init__(self) -> None:
        if not (math.isfinite(self.keep) and self.keep >= 0):
            raise ValueError(f"keep {self.keep}: expected seconds, 0 or more")
        if not (math.isfinite(self.reach) and self.reach > 0):
            raise ValueError(f"reach {self.reach}: expected a number above 0")
        if not self.change >= 1:
            raise ValueError(f"change {self.change}: expected 1 or more")
        if self.most < 1:
            raise ValueError(f"most {self.most}: expected 1 or more")


class Tracker:
    """Give the instances of one camera ids that stay the same over frames.

    Instances are paired with the objects of the frames before so that boxes overlap most and lie closest to where
    a constant velocity has moved them. Only equal labels are paired, whatever ids a vocabulary gives them. Ids count
    up from 1 and are never used again.

    Source: Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016, arXiv 1602.00763, with a distance beside
    the overlap, so that small fast objects are followed, and without its Kalman filter.

    Args:
        settings: how objects are followed; None: the defaults of TrackSettings.

    Example:
        >>> import numpy as np
        >>> from synseg_model.instances import Tracker, find_instances
        >>> label_map, confidence = np.zeros((60, 80), np.uint8), np.ones((60, 80), np.float32)
        >>> label_map[10:30, 30:50] = 1
        >>> instances = find_instances(label_map, confidence, ["cup"])
        >>> tracker = Tracker()
        >>> tracker.update(instances, stamp=0.0), tracker.update(instances, stamp=0.1)
        ((1,), (1,))
    """

    def __init__(self, settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._next = self._next_group = 1
        self._groups: dict[str, int] = {}
        self.reset()

    def __len__(self) -> int:
        """Count the objects that are followed, seen or not."""
        return len(self._ids)

    def reset(self) -> None:
        """Forget all objects. Ids go on from where they are."""
        self._stamp = -math.inf
        self._groups.clear()
        self._ids = np.zeros(0, np.int64)
        self._label = np.zeros(0, np.int64)
        self._seen = np.zeros(0)  # seconds
        self._box = np.zeros((0, 4))  # center x, center y, width, height in pixels
        self._velocity = np.zeros((0, 2))  # pixels per second; NaN until measured

    def update(self, instances: Sequence[Instance], stamp: float) -> tuple[int, ...]:
        """Give the instances of the next frame their ids.

        Args:
            instances: of one frame, in any order.
            stamp: the frame's time in seconds. An earlier one than the last (a recording that begins again) makes the
                tracker forget all objects.

        Returns:
            One id per instance, in their order.

        Raises:
            ValueError: for a stamp that is not finite.
        """
        if not math.isfinite(stamp):
            raise ValueError(f"stamp {stamp}: expected seconds, a finite number")
        if stamp < self._stamp:
            self.reset()
        self._stamp = stamp
        self._keep(stamp - self._seen <= self.settings.keep)
        if len(self._groups) > 2 * self.settings.most:  # labels come and go with vocabularies
            followed = set(self._label.tolist())
            self._groups = {key: group for key, group in self._groups.items() if group in followed}
        label = np.array([self._group(instance.label) for instance in instances], np.int64)
        box = np.array([instance.box for instance in instances], np.float64).reshape(-1, 4)
        box[:, :2] += box[:, 2:] / 2
        ids = np.zeros(len(instances), np.int64)
        tracks, found = self._pair(label, box, stamp)
        self._follow(tracks, box[found], stamp)
        ids[found] = self._ids[tracks]
        new = np.flatnonzero(ids == 0)
        ids[new] = self._begin(label[new], box[new], stamp)
        return tuple(ids.tolist())

    def _group(self, label: str) -> int:
        """Number labels by name: a new vocabulary may give them other ids and another case."""
        group = self._groups.setdefault(case_key(label), self._next_group)
        self._next_group += group == self._next_group
        return group

    def _keep(self, kept: np.ndarray) -> None:
        if kept.all():
            return
        for name in ("_ids", "_label", "_seen", "_box", "_velocity"):
            setattr(self, name, getattr(self, name)[kept])

    def _expected(self, stamp: float) -> np.ndarray:
        """Move the boxes on, (T,4): at constant velocity, for as long as that can be trusted."""
        expected = self._box.copy()
        expected[:, :2] += np.nan_to_num(self._velocity) * np.minimum(stamp - self._seen, _FADE)[:, None]
        return expected

    def _pair(self, label: np.ndarray, box: np.ndarray, stamp: float) -> tuple[np.ndarray, np.ndarray]:
        """Pair tracks with instances: two arrays of indices."""
        if not len(label) or not len(self._ids):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        settings, expected = self.settings, self._expected(stamp)
        tracks, found = np.nonzero(self._label[:, None] == label)
        one, other = expected[tracks], box[found]  # (P,4): of every pair with one label
        area, other_area = one[:, 2] * one[:, 3], other[:, 2] * other[:, 3]
        distance = np.hypot(one[:, 0] - other[:, 0], one[:, 1] - other[:, 1]) / np.sqrt(np.sqrt(area * other_area))
        unseen = ((stamp - self._seen) / max(settings.keep, _SHORTEST))[tracks]
        ratio = area / other_area
        possible = distance <= settings.reach * (1 + unseen)
        possible &= (ratio <= settings.change) & (ratio >= 1 / settings.change)
        tracks, found, one, other = tracks[possible], found[possible], one[possible], other[possible]
        if np.bincount(tracks, minlength=1).max() <= 1 and np.bincount(found, minlength=1).max() <= 1:
            return tracks, found  # no pair excludes another
        overlap = (one[:, 2:] + other[:, 2:]) / 2 - np.abs(one[:, :2] - other[:, :2])
        overlap = np.clip(overlap, 0, np.minimum(one[:, 2:], other[:, 2:])).prod(axis=1)
        iou = overlap / ((area + other_area)[possible] - overlap)
        # A pair that is not possible costs as much as the worst that is: it never pushes a good pair aside.
        cost = np.full((len(self._ids), len(label)), 2 + _ABSENCE)
        cost[tracks, found] = 1 - iou + distance[possible] / (2 * settings.reach) + _ABSENCE * unseen[possible]
        allowed = np.zeros(cost.shape, bool)
        allowed[tracks, found] = True
        tracks, found = linear_sum_assignment(cost)
        real = allowed[tracks, found]
        return tracks[real], found[real]

    def _follow(self, tracks: np.ndarray, box: np.ndarray, stamp: float) -> None:
        passed = stamp - self._seen[tracks]
        timed = passed >= _SHORTEST
        moved = box[timed, :2] - self._box[tracks[timed], :2]
        measured, before = moved / passed[timed, None], self._velocity[tracks[timed]]
        smooth = before + _SMOOTHING * (measured - before)
        self._velocity[tracks[timed]] = np.where(np.isnan(before), measured, smooth)
        self._box[tracks] = box
        self._seen[tracks] = stamp

    def _begin(self, label: np.ndarray, box: np.ndarray, stamp: float) -> np.ndarray:
        count = len(label)
        ids = np.arange(self._next, self._next + count)
        self._next += count
        self._ids = np.concatenate((self._ids, ids))
        self._label = np.concatenate((self._label, label))
        self._seen = np.concatenate((self._seen, np.full(count, stamp)))
        self._box = np.concatenate((self._box, box))
        self._velocity = np.concatenate((self._velocity, np.full((count, 2), np.nan)))
        if len(self._ids) > self.settings.most:
            newest = np.argsort(self._seen, kind="stable")[-self.settings.most :]
            self._keep(np.isin(np.arange(len(self._ids)), newest))
        return ids
