"""What is done for all objects in one go gives what a slow reference gives, object by object."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from synseg_model.instances import FindSettings, Tracker, TrackSettings, find_in_masks, find_instances
from synseg_model.instances.shapes import may_be_several, split_mask
from tests.synseg_model.instances.drawn import box_instance

LABELS = ("cup", "ball", "person")


def blobs(rng, size):
    """Draw ellipses over each other, as segmented objects are: with necks, with thin parts, some with holes."""
    label_map = np.zeros(size, np.uint16)
    for _ in range(int(rng.integers(5, 60))):
        center, axes = rng.integers(0, size[::-1]).tolist(), rng.integers(2, 45, 2).tolist()
        cv2.ellipse(label_map, center, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(0, 4)), -1)
    return label_map


def components(mask):
    found, count = ndimage.label(mask, np.ones((3, 3)))
    return [found == number for number in range(1, count + 1)]


def reference(masks, confidence, min_area, neck):
    """Find, component by component, what instances are without bridges: label, mask, area and score."""
    expected = []
    for number, mask in enumerate(masks, 1):
        for component in components(mask):
            if component.sum() < min_area:
                continue
            rows, columns = np.nonzero(component)
            window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
            parts = split_mask(component[window].copy(), neck) if component.sum() >= 2 * min_area else []
            parts = [part for part in parts if part.sum() >= min_area]
            for part in parts if len(parts) > 1 else [component[window]]:
                whole = np.zeros(mask.shape, bool)
                whole[window] = part
                expected.append((number, whole.tobytes(), int(whole.sum()), float(confidence[whole].mean())))
    return sorted(expected)


def described(instances, size):
    found = []
    for one in instances:
        whole = np.zeros(size, bool)
        whole[one.window] = one.mask
        rows, columns = np.nonzero(whole)
        assert one.box == cv2.boundingRect(whole.view(np.uint8))
        assert one.center == pytest.approx((columns.mean(), rows.mean()))
        found.append((one.label_id, whole.tobytes(), one.area, one.score))
    return sorted(found)


def check(found, expected):
    assert [one[:3] for one in found] == [one[:3] for one in expected]
    assert [one[3] for one in found] == pytest.approx([one[3] for one in expected], abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_instances_are_those_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(60, 260, 2).tolist())
    label_map, confidence = blobs(rng, size), rng.random(size, np.float32)
    min_area, neck = int(rng.integers(5, 80)), float(rng.choice([0.2, 0.35, 0.6]))
    settings = FindSettings(min_area=min_area, most=5000, most_per_label=5000, bridge=0, neck=neck)
    masks = [label_map == number for number in (1, 2, 3)]
    expected = reference(masks, confidence, min_area, neck)
    check(described(find_instances(label_map, confidence, LABELS, None, settings), size), expected)
    overlapping = [mask | (blobs(rng, size) == 1) for mask in masks]
    expected = reference(overlapping, confidence, min_area, neck)
    check(described(find_in_masks(overlapping, [confidence] * 3, LABELS, None, settings), size), expected)


@pytest.mark.parametrize("seed", range(6))
def test_every_mask_that_is_split_alone_is_among_those_that_may_be(seed):
    rng = np.random.default_rng(seed)
    masks = []
    for component in components(blobs(rng, (400, 500)) > 0) + components(blobs(rng, (300, 300)) == 1):
        rows, columns = np.nonzero(component)
        masks.append(component[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].copy())
    several = may_be_several(masks, 0.35)
    split = [len(split_mask(mask, 0.35)) > 1 for mask in masks]
    assert all(may for may, is_split in zip(several, split, strict=True) if is_split)
    assert several.count(True) < len(masks) / 2


class SlowTracker(Tracker):
    """Pair over the whole matrix of costs, entry by entry."""

    def _pair(self, label, box, stamp):
        expected, settings = self._expected(stamp), self.settings
        cost, possible = np.full((len(expected), len(box)), 2.3), np.zeros((len(expected), len(box)), bool)
        for t, one in enumerate(expected):
            unseen = (stamp - self._seen[t]) / settings.keep
            for n, other in enumerate(box):
                areas = one[2] * one[3], other[2] * other[3]
                distance = np.hypot(*(one[:2] - other[:2])) / (areas[0] * areas[1]) ** 0.25
                sides = [
                    max(0.0, min(one[i] + one[i + 2] / 2, other[i] + other[i + 2] / 2)
                        - max(one[i] - one[i + 2] / 2, other[i] - other[i + 2] / 2))
                    for i in (0, 1)
                ]  # fmt: skip
                iou = sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])
                alike = 1 / settings.change <= areas[0] / areas[1] <= settings.change
                if self._label[t] == label[n] and alike and distance <= settings.reach * (1 + unseen):
                    possible[t, n] = True
                    cost[t, n] = 1 - iou + distance / (2 * settings.reach) + 0.3 * unseen
        tracks, found = linear_sum_assignment(cost)
        real = possible[tracks, found]
        return tracks[real], found[real]


@pytest.mark.parametrize("crowd", [3, 25])
@pytest.mark.parametrize("seed", range(6))
def test_ids_are_those_of_the_reference(seed, crowd):
    rng = np.random.default_rng(seed)
    trackers = [kind(TrackSettings(keep=1.0)) for kind in (Tracker, SlowTracker)]
    center, side = rng.uniform(0, 400, (crowd, 2)), rng.uniform(8, 90, (crowd, 2))
    speed, labels = rng.normal(0, 80, (crowd, 2)), rng.integers(0, 3, crowd)
    stamp = 0.0
    for _ in range(20):
        stamp += float(rng.choice([0.03, 0.1, 0.4]))
        boxes = np.concatenate((center + speed * stamp, side * rng.uniform(0.8, 1.2, side.shape)), 1).astype(int)
        shown = rng.permutation(crowd)[: int(rng.integers(0, crowd + 1))]
        instances = [box_instance(*boxes[i].tolist(), LABELS[labels[i]]) for i in shown]
        first, second = (tracker.update(instances, stamp) for tracker in trackers)
        assert first == second
    assert max(trackers[0]._ids, default=0) < 20 * crowd
