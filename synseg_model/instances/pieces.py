"""Pieces of instances: components that are split where a neck is thin, and joined where a gap is small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from synseg_model.instances.runs import Components
from synseg_model.instances.shapes import facing_length, may_be_several, split_mask

_PAIRS = 100  # of pieces that are compared in one frame


@dataclass(eq=False)
class Piece:
    """Hold a part of an instance; box is left, top, right, bottom. source: the component that it comes from."""

    label: int
    source: int
    box: tuple[int, int, int, int]
    area: int
    center: tuple[float, float]
    weight: float
    mask: np.ndarray


def split_components(
    components: Components,
    chosen: Sequence[int],
    plane_of: Callable[[int], np.ndarray],
    neck: float,
    min_area: int,
) -> list[Piece]:
    """Split components where they are clearly two objects.

    Args:
        components: of a frame.
        chosen: the indices of those that are looked at.
        plane_of: returns the confidence of a label, (H,W) float32, for the parts' weights.
        neck: see `split_mask`; 0: never.
        min_area: pixels that each part has at least.
    """
    masks = components.masks(chosen)
    label, area, weight = (array[chosen].tolist() for array in (components.label, components.area, components.weight))
    boxes, centers = (list(map(tuple, array[chosen].tolist())) for array in (components.box, components.center))
    large = [i for i in range(len(masks)) if neck and area[i] >= 2 * min_area]
    several = may_be_several([masks[i] for i in large], neck) if large else ()
    doubtful = {i for i, doubt in zip(large, several, strict=True) if doubt}
    pieces: list[Piece] = []
    for i, component in enumerate(chosen):
        parts = split_mask(masks[i], neck) if i in doubtful else ()
        parts = [part for part in parts if np.count_nonzero(part) >= min_area] if len(parts) > 1 else ()
        if len(parts) > 1:
            plane = plane_of(label[i])
            pieces += (_part(part, label[i], component, boxes[i][:2], plane) for part in parts)
        else:
            pieces.append(Piece(label[i], component, boxes[i], area[i], centers[i], weight[i], masks[i]))
    return pieces


def _part(part: np.ndarray, label: int, component: int, corner: tuple[int, int], plane: np.ndarray) -> Piece:
    """Make the piece of one part of a component whose box begins at the corner."""
    x, y, width, height = cv2.boundingRect(part.view(np.uint8))
    left, top = corner[0] + x, corner[1] + y
    cut = part[y : y + height, x : x + width].copy()
    area, center = _measure(cut, left, top)
    confident = cv2.copyTo(plane[top : top + height, left : left + width], cut.view(np.uint8))
    box = (left, top, left + width, top + height)
    return Piece(label, component, box, area, center, cv2.sumElems(confident)[0], cut)


def _measure(mask: np.ndarray, left: int, top: int) -> tuple[int, tuple[float, float]]:
    """Return area and centroid of a mask whose first pixel is (left, top)."""
    columns, rows = (cv2.reduce(mask.view(np.uint8), axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (0, 1))
    area = int(rows.sum())
    x, y = (float(np.arange(len(sums)) @ sums) / area for sums in (columns, rows))
    return area, (left + x, top + y)


def bridge_pieces(pieces: list[Piece], bridge: float) -> Iterator[Piece]:
    """Join pieces of one label across small gaps.

    Args:
        pieces: of a frame.
        bridge: gaps up to this share of the smaller piece's side (the square root of its area) are bridged, where the
            pieces also face each other along half of that side.
    """
    root = list(range(len(pieces)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for i, j in _near(pieces, bridge):
        larger, smaller = (pieces[i], pieces[j]) if pieces[i].area >= pieces[j].area else (pieces[j], pieces[i])
        side = smaller.area**0.5
        facing = facing_length(smaller.mask, smaller.box[:2], larger.mask, larger.box[:2], bridge * side + 1)
        if facing >= side / 2:
            root[find(i)] = find(j)
    groups: dict[int, list[Piece]] = {}
    for i, piece in enumerate(pieces):
        groups.setdefault(find(i), []).append(piece)
    yield from (group[0] if len(group) == 1 else _joined(group) for group in groups.values())


def _near(pieces: list[Piece], bridge: float) -> list[tuple[int, int]]:
    """Pair pieces of one label whose boxes are close enough for a bridge, the closest first."""
    if len(pieces) < 2:
        return []
    box = np.array([piece.box for piece in pieces])
    label, source = (np.array([getattr(piece, name) for piece in pieces]) for name in ("label", "source"))
    side = np.sqrt([piece.area for piece in pieces])
    between = np.maximum(box[:, None, :2], box[None, :, :2]) - np.minimum(box[:, None, 2:], box[None, :, 2:])
    gap = between.max(axis=2)
    # Parts of one component were split on purpose.
    close = (label[:, None] == label) & (source[:, None] != source) & (gap <= bridge * np.minimum(side[:, None], side))
    i, j = np.nonzero(np.triu(close, 1))
    order = np.argsort(gap[i, j], kind="stable")[:_PAIRS]
    return list(zip(i[order].tolist(), j[order].tolist(), strict=True))


def _joined(pieces: list[Piece]) -> Piece:
    boxes = np.array([piece.box for piece in pieces])
    left, top = boxes[:, :2].min(0).tolist()
    right, bottom = boxes[:, 2:].max(0).tolist()
    mask = np.zeros((bottom - top, right - left), bool)
    for piece in pieces:
        x, y, x_end, y_end = piece.box
        mask[y - top : y_end - top, x - left : x_end - left] |= piece.mask
    area, weight = sum(piece.area for piece in pieces), sum(piece.weight for piece in pieces)
    center = tuple(sum(piece.area * piece.center[axis] for piece in pieces) / area for axis in (0, 1))
    return Piece(pieces[0].label, pieces[0].source, (left, top, right, bottom), area, center, weight, mask)
