"""Instances: the single objects of each label, found in a label map or in masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synseg_model.instances.pieces import Piece, bridge_pieces, split_components
from synseg_model.instances.runs import Runs, connect, find_runs
from synseg_model.vocabulary import LARGEST_LIMIT

# Pieces looked at for each instance that may be given out: bridging joins several.
_PIECES = 2
_RUNS = 50_000  # in one frame; a label map with more is noise, of which the longest runs are looked at


@dataclass(frozen=True, eq=False)
class Instance:
    """Hold one object of a label.

    Args:
        label_id: what label maps and messages call the label, from 1.
        label: the label, as the vocabulary spells it.
        box: x, y, width, height in pixels of the image, the smallest around the mask.
        area: pixels in the mask.
        score: the mean confidence (or activation) inside the mask, 0 to 1.
        mask: (height,width) bool, cropped to the box.
        center: x, y of the mask's centroid in pixels; the center of the first pixel is (0, 0).
    """

    label_id: int
    label: str
    box: tuple[int, int, int, int]
    area: int
    score: float
    mask: np.ndarray
    center: tuple[float, float]

    @property
    def window(self) -> tuple[slice, slice]:
        """Return rows and columns of the box: image[instance.window] is the part of the image under the mask."""
        x, y, width, height = self.box
        return slice(y, y + height), slice(x, x + width)


@dataclass(frozen=True)
class FindSettings:
    """Say what counts as an instance.

    Args:
        min_area: pixels that an instance has at least; smaller pieces are noise.
        most_per_label: instances of one label in a frame; the largest stay.
        most: instances in a frame; the largest stay.
        bridge: a gap between two pieces of a label is bridged up to this share of the smaller piece's side (the square
            root of its area), where they also face each other along half of that side. 0: never.
        neck: one piece is split where it is two bodies and the neck between them is thinner than this share of the
            smaller body. 0: never.
    """

    min_area: int = 64
    most_per_label: int = 20
    most: int = 100
    bridge: float = 0.1
    neck: float = 0.35

    def __post_init__(self) -> None:
        for name in ("min_area", "most_per_label", "most"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 1 or more")
        for name in ("bridge", "neck"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0 or more and below 1")


def check_inside(instances: Sequence[Instance], size: tuple[int, int]) -> None:
    """Raise ValueError for an instance that reaches out of an image of (height, width)."""
    for instance in instances:
        rows, columns = instance.window
        if rows.start < 0 or columns.start < 0 or rows.stop > size[0] or columns.stop > size[1]:
            raise ValueError(f"instance with the box {instance.box} is not of an image of {size[1]}x{size[0]} pixels")


def find_instances(
    label_map: np.ndarray,
    confidence: np.ndarray,
    labels: Sequence[str],
    ids: Sequence[int] | None = None,
    settings: FindSettings | None = None,
) -> tuple[Instance, ...]:
    """Find the instances in a label map.

    Args:
        label_map: (H,W) uint8 or uint16: a label's id on its pixels, 0 on background.
        confidence: (H,W) float32 in [0, 1].
        labels: K labels.
        ids: K ids, distinct and from 1; None: 1 to K.
        settings: what counts as an instance; None: the defaults of FindSettings.

    Returns:
        Instances, the largest first.

    Raises:
        ValueError: for arrays of other shapes or types, and for a value in the label map that is no id.

    Example:
        >>> import numpy as np
        >>> from synseg_model.instances import find_instances
        >>> label_map = np.zeros((60, 80), np.uint8)  # or result.label_map, with result.labels and result.ids
        >>> label_map[10:30, 5:25] = label_map[10:40, 50:70] = 1
        >>> confidence = np.full(label_map.shape, 0.75, np.float32)
        >>> instances = find_instances(label_map, confidence, ["cup"])
        >>> [(instance.label, instance.box) for instance in instances]
        [('cup', (50, 10, 20, 30)), ('cup', (5, 10, 20, 20))]
    """
    index_of = _index_by_id(labels, ids)
    if label_map.ndim != 2 or label_map.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"label map of shape {label_map.shape}, {label_map.dtype}: expected (H,W) uint8 or uint16")
    _check_size("confidence", confidence, label_map.shape)
    runs = find_runs(label_map, confidence)
    index = index_of[np.minimum(runs.label, len(index_of) - 1)]
    if index.size and index.min() < 0:
        raise ValueError(f"label map has the value {runs.label[index.argmin()]}: expected 0 or one of the labels' ids")
    indexed = Runs(index, runs.row, runs.start, runs.stop, runs.weight)
    return _instances(indexed, None, lambda _: confidence, labels, ids, settings or FindSettings())


def find_in_masks(
    masks: np.ndarray | Sequence[np.ndarray],
    activations: np.ndarray | Sequence[np.ndarray],
    labels: Sequence[str],
    ids: Sequence[int] | None = None,
    settings: FindSettings | None = None,
) -> tuple[Instance, ...]:
    """Find the instances in one mask per label; masks may overlap.

    Args:
        masks: (K,H,W) bool, or K masks (H,W).
        activations: (K,H,W) float32 in [0, 1], or K activations (H,W).
        labels: K labels.
        ids: K ids, distinct and from 1; None: 1 to K.
        settings: what counts as an instance; None: the defaults of FindSettings.

    Returns:
        Instances, the largest first.

    Raises:
        ValueError: for arrays of other shapes, types or numbers.
    """
    _index_by_id(labels, ids)
    if not len(masks) == len(activations) == len(labels):
        raise ValueError(f"{len(masks)} masks and {len(activations)} activations for {len(labels)} labels")
    layers = []
    for index, (mask, activation) in enumerate(zip(masks, activations, strict=True)):
        if mask.ndim != 2 or mask.dtype != bool or mask.shape != masks[0].shape:
            raise ValueError(f"mask of shape {mask.shape}, {mask.dtype}: expected (H,W) bool, all of one size")
        _check_size("activation", activation, mask.shape)
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        if width:
            inside = slice(y, y + height), slice(x, x + width)
            found = find_runs(mask[inside], activation[inside])
            label = np.full(len(found.row), index)
            layers.append(Runs(label, found.row + y, found.start + x, found.stop + x, found.weight))
    if not layers:
        return ()
    names = ("label", "row", "start", "stop", "weight")
    runs = Runs(*(np.concatenate([getattr(layer, name) for layer in layers]) for name in names))
    return _instances(runs, runs.label, activations.__getitem__, labels, ids, settings or FindSettings())


def _instances(
    runs: Runs,
    layers: np.ndarray | None,
    plane_of: Callable[[int], np.ndarray],
    labels: Sequence[str],
    ids: Sequence[int] | None,
    settings: FindSettings,
) -> tuple[Instance, ...]:
    if not len(runs.row):
        return ()
    if len(runs.row) > _RUNS:
        longest = np.sort(np.argpartition(runs.start - runs.stop, _RUNS)[:_RUNS])
        runs, layers = runs.take(longest), None if layers is None else layers[longest]
    components = connect(runs, layers)
    chosen = _largest(components.label, components.area, settings, _PIECES)
    pieces = split_components(components, chosen, plane_of, settings.neck, settings.min_area)
    if settings.bridge:
        pieces = list(bridge_pieces(pieces, settings.bridge))
    label = np.array([piece.label for piece in pieces], np.int64)
    area = np.array([piece.area for piece in pieces], np.int64)
    return tuple(_instance(pieces[i], labels, ids) for i in _largest(label, area, settings))


def _largest(label: np.ndarray, area: np.ndarray, settings: FindSettings, factor: int = 1) -> list[int]:
    """Choose those that are large enough, the largest first, up to `factor` times the numbers allowed."""
    large = np.flatnonzero(area >= settings.min_area)
    large = large[np.argsort(-area[large], kind="stable")]
    left, chosen = {}, []
    for i, of in zip(large.tolist(), label[large].tolist(), strict=True):
        left[of] = left.get(of, factor * settings.most_per_label) - 1
        if left[of] >= 0:
            chosen.append(i)
            if len(chosen) == factor * settings.most:
                break
    return chosen


def _instance(piece: Piece, labels: Sequence[str], ids: Sequence[int] | None) -> Instance:
    left, top, right, bottom = piece.box
    return Instance(
        label_id=piece.label + 1 if ids is None else int(ids[piece.label]),
        label=labels[piece.label],
        box=(left, top, right - left, bottom - top),
        area=piece.area,
        score=min(1.0, max(0.0, piece.weight / piece.area)),
        mask=piece.mask,
        center=piece.center,
    )


def _index_by_id(labels: Sequence[str], ids: Sequence[int] | None) -> np.ndarray:
    """Return the index of the label of every id; -1 for other values, and at the end for all that are larger."""
    numbers = list(range(1, len(labels) + 1) if ids is None else map(int, ids))
    if len(numbers) != len(labels) or len(set(numbers)) != len(numbers):
        raise ValueError(f"ids {numbers[:9]} for {len(labels)} labels: expected one each, all distinct")
    if not all(1 <= number <= LARGEST_LIMIT for number in numbers):
        raise ValueError(f"ids {numbers[:9]}: expected 1 to {LARGEST_LIMIT}")
    index = np.full(max(numbers, default=0) + 2, -1, np.int64)
    index[numbers] = np.arange(len(numbers))
    return index


def _check_size(name: str, plane: np.ndarray, shape: tuple[int, ...]) -> None:
    if plane.shape != shape or plane.dtype != np.float32:
        raise ValueError(f"{name} of shape {plane.shape}, {plane.dtype}: expected {shape}, float32")
