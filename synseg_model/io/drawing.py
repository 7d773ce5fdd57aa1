"""Drawings of results: colours of labels, overlays with contours and names, and contact sheets."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image

from synseg_model.io import fonts
from synseg_model.result import Result
from synseg_model.vocabulary import LARGEST_LIMIT, Vocabulary

__all__ = ["colors_of", "contact_sheet", "overlay", "palette"]

OPACITY = 0.45
MOST_NAMES = 40  # plates on one image; the largest regions are named
PAPER, INK = (250, 250, 248), (45, 45, 45)

_FIRST_COLORS = """
    3d8bfd f4593f 2fbf71 ffb11a 9b5de5 00bcd4 ef476f 8bc34a ff8c42 5c6bc0 dbe04b c0568f
    0f8b8d b5651d a3d9ff 7cb518 d00000 b7a1ff 386641 ffafcc 1d4e89 c9a227 6a0572 94d2bd
""".split()  # noqa: SIM905


@lru_cache(maxsize=16)
def palette(count: int) -> np.ndarray:
    """Return distinct colours, always the same; a longer palette only adds colours.

    Args:
        count: number of colours, 0 to 65535.

    Returns:
        (count,3) uint8 RGB, read-only.

    Raises:
        ValueError: for another number.
    """
    if not 0 <= count <= LARGEST_LIMIT:
        raise ValueError(f"palette of {count} colours: expected 0 to {LARGEST_LIMIT}")
    colors = [tuple(bytes.fromhex(color)) for color in _FIRST_COLORS[:count]]
    taken, step = set(colors), 0
    while len(colors) < count:
        # Hues by the golden ratio never repeat; four levels of saturation and brightness part neighbours in
        # hue.
        hue = (0.11 + step * 0.6180339887498949) % 1
        saturation = (0.75, 0.5, 0.9, 0.62)[step % 4]
        value = (0.95, 0.8, 0.65, 0.88)[step // 4 % 4]
        color = tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
        step += 1
        while color in taken:
            number = (color[0] << 16 | color[1] << 8 | color[2]) + 1
            color = (number >> 16 & 255, number >> 8 & 255, number & 255)
        taken.add(color)
        colors.append(color)
    array = np.array(colors, np.uint8).reshape(-1, 3)
    array.flags.writeable = False
    return array


def colors_of(vocabulary: Vocabulary) -> np.ndarray:
    """Return the colours of a vocabulary's labels, which belong to their ids.

    Args:
        vocabulary: K labels.

    Returns:
        (K,3) uint8 RGB.
    """
    return palette(max(vocabulary.ids))[np.array(vocabulary.ids) - 1]


def overlay(image: np.ndarray, result: Result, opacity: float = OPACITY, names: bool = True) -> np.ndarray:
    """Draw a result over its image: coloured regions of the label map, contours, and names.

    Args:
        image: (H,W,3) uint8 RGB.
        result: the result of that image.
        opacity: opacity of the regions' colours, in [0, 1].
        names: whether names are drawn.

    Returns:
        A new image of the same size.

    Raises:
        ValueError: for an image of another size or type.
    """
    if image.shape != (*result.shape, 3) or image.dtype != np.uint8:
        raise ValueError(f"image of shape {image.shape} and {image.dtype}: expected {(*result.shape, 3)} of uint8")
    image = np.ascontiguousarray(image)
    names_by_id = dict(zip(result.ids, result.labels, strict=True))
    colors = palette(max(result.ids))
    ids, compact = _compact(result.label_map)
    table = np.zeros((256, 3), np.uint8)
    table[1 : len(ids) + 1] = colors[ids - 1]
    tint = cv2.LUT(cv2.merge([compact] * 3), table[None])
    drawn = cv2.addWeighted(image, 1 - opacity, tint, opacity, 0)
    cv2.copyTo(image, (compact == 0).view(np.uint8), drawn)
    reach = max(1, round(min(result.shape) / 480))
    edges = cv2.morphologyEx(compact, cv2.MORPH_GRADIENT, np.ones((2 * reach + 1,) * 2, np.uint8))
    # Only the inner side is drawn: each region keeps its colour up to the line, and the background stays
    # clean.
    cv2.copyTo(tint, cv2.min(edges, compact), drawn)
    if names:
        _draw_names(drawn, compact, [(int(i), names_by_id[i], colors[i - 1]) for i in ids])
    return drawn


def _compact(label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Renumber a label map to uint8: returns the ids present (the 255 largest at most) and the map."""
    areas = np.bincount(label_map.ravel())
    areas[0] = 0
    ids = np.flatnonzero(areas)
    if len(ids) > 255:
        ids = np.sort(ids[np.argsort(-areas[ids], kind="stable")[:255]])
    table = np.zeros(len(areas), np.uint8)
    table[ids] = np.arange(1, len(ids) + 1)
    return ids, np.take(table, label_map)


def _draw_names(drawn: np.ndarray, compact: np.ndarray, regions: list[tuple[int, str, np.ndarray]]) -> None:
    height, width = compact.shape
    size = int(np.clip(min(height, width) / 32, 11, 64))
    coarse = max(1, min(height, width) // 120)  # a coarse grid is enough for placing names
    small = np.ascontiguousarray(compact[coarse // 2 :: coarse, coarse // 2 :: coarse])
    places = []
    for position, (number, name, color) in enumerate(regions, start=1):
        place = _place(small == position)
        if place is not None:
            area, center, box = place
            center, box = ([coarse * value for value in values] for values in (center, box))
            places.append((area, center, box, number, name, color))
    taken: list[tuple[int, int, int, int]] = []
    for _, (cx, cy), (x, y, w, h), number, name, color in sorted(places, key=lambda p: -p[0])[:MOST_NAMES]:
        plate = fonts.plate(name, number, tuple(int(c) for c in color), size)
        ph, pw = plate.shape[:2]
        inside = (cx - pw // 2, cy - ph // 2)
        outside = [(x + w // 2 - pw // 2, y - ph - 2), (x + w // 2 - pw // 2, y + h + 2)]
        # A plate larger than its region would hide it.
        options = [inside, *outside] if w > pw * 1.2 and h > ph * 1.6 else [*outside, inside]
        options += [(inside[0], inside[1] + shift * (ph + 2)) for shift in (1, -1, 2, -2)]
        right, bottom = max(0, width - pw), max(0, height - ph)
        boxes = [(min(max(px, 0), right), min(max(py, 0), bottom), pw, ph) for px, py in options]
        box = min(boxes, key=lambda b: sum(_overlap(b, other) for other in taken))  # ties go to the first place
        taken.append(box)
        _paste(drawn, plate, box[0], box[1])


def _place(mask: np.ndarray) -> tuple[int, tuple[int, int], tuple[int, int, int, int]] | None:
    """Find where to name a region: the area, an inner point and the box of its largest piece."""
    count, pieces, statistics, centroids = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
    x, y, w, h, area = (int(value) for value in statistics[largest])
    piece = np.pad((pieces[y : y + h, x : x + w] == largest).view(np.uint8), 1)
    depth = cv2.distanceTransform(piece, cv2.DIST_L2, 3)[1:-1, 1:-1]
    column, row = (round(value) for value in centroids[largest])
    row, column = row - y, column - x
    if depth[row, column] < 0.6 * depth.max():  # the centroid is steadier in a video, where it is good enough
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return area, (x + int(column), y + int(row)), (x, y, w, h)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, across) * max(0, down)


def _paste(drawn: np.ndarray, plate: np.ndarray, x: int, y: int) -> None:
    region = drawn[y : y + plate.shape[0], x : x + plate.shape[1]]  # cut off where the image ends
    plate = plate[: region.shape[0], : region.shape[1]]
    alpha = plate[..., 3:] * 0.92
    region[:] = (region * (1 - alpha) + plate[..., :3] * alpha + 0.5).astype(np.uint8)


def contact_sheet(
    images: Sequence[np.ndarray], columns: int = 3, captions: Sequence[str] | None = None, tile: int = 320
) -> np.ndarray:
    """Lay images out in a grid, with captions below them.

    Args:
        images: (H,W,3) uint8 RGB each.
        columns: largest number of images in a row.
        captions: one per image, of one or several lines; what does not fit ends in an ellipsis.
        tile: width of a cell in pixels. Cells have the proportions of the first image, and each image is fitted into
            one.

    Returns:
        (H,W,3) uint8 RGB.

    Raises:
        ValueError: for no images, and for arguments that do not fit.
    """
    if not images:
        raise ValueError("no images: expected at least one")
    if columns < 1 or tile < 16:
        raise ValueError(f"columns {columns}, tile {tile}: expected at least 1 column and tiles of at least 16 pixels")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(captions)} captions for {len(images)} images: give none, or one per image")
    lines = [caption.split("\n") if caption else [] for caption in captions or [""] * len(images)]
    columns = min(columns, len(images))
    gap, size = max(4, tile // 32), max(11, tile // 22)
    step, height = fonts.line_height(size), max(8, round(tile * images[0].shape[0] / images[0].shape[1]))
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    texts = [max(len(lines[index]) for index in row) for row in rows]  # lines of text below each row
    tops = np.cumsum([gap] + [height + (n * step + gap // 2 if n else 0) + gap for n in texts])
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, int(tops[-1])), PAPER)
    for row, y in zip(rows, tops, strict=False):
        for column, index in enumerate(row):
            x = gap + column * (tile + gap)
            sheet.paste(Image.fromarray(_fitted(images[index], height, tile)), (x, int(y)))
            for line, caption in enumerate(lines[index]):
                text, path = fonts.fit_line(caption, size, tile)
                top = int(y) + height + gap // 2 + line * step
                fonts.draw_text(sheet, (x, top), text, size, INK, path)
    return np.array(sheet)


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    cell = np.full((height, width, 3), 232, np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    cell[top : top + rows, left : left + columns] = cv2.resize(image, (columns, rows), interpolation=method)
    return cell
