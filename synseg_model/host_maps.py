"""Maps on the CPU: what a Result computes from activations at the network's own resolution, with OpenCV."""

from __future__ import annotations

import threading
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from synseg_model.vocabulary import Vocabulary

__all__ = ["NOTHING", "HostMaps", "Measures"]

# Bilinear weights may round a value up by a few units in the last place. Labels this far below are surely absent.
_ROUNDING = 1e-5

_KEPT_PIXELS = 1920 * 1080  # largest image whose buffers are kept for the next one: 23 MB

# Columns are resampled in blocks of so many: OpenCV computes the last few of a row in another way than the others.
_BLOCK = 32


class Measures(NamedTuple):
    """Hold the measures of a mask, as `Result.area`, `Result.score` and `Result.roi` return them."""

    area: int
    score: float
    roi: tuple[int, int, int, int]


NOTHING = Measures(0, 0.0, (0, 0, 0, 0))


class HostMaps:
    """Compute label map, confidence and masks of one image on the CPU.

    Args:
        maps: (K,h,w) float32 in [0, 1].
        vocabulary: K labels.
        shape: (H,W) of the image in pixels.
    """

    def __init__(self, maps: np.ndarray, vocabulary: Vocabulary, shape: tuple[int, int]) -> None:
        self.maps, self.vocabulary, self.shape = maps, vocabulary, shape

    @cached_property
    def largest(self) -> np.ndarray:
        """Largest activation of each label, (K,) float32."""
        return self.maps.max(axis=(1, 2))

    @cached_property
    def candidates(self) -> tuple[int, ...]:
        """Indices of labels that can reach their thresholds: bilinear resampling never exceeds the largest sample."""
        return tuple(int(i) for i in np.flatnonzero(self.largest >= self.vocabulary.thresholds - _ROUNDING))

    def resize(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Resample one map to the image's size; all outputs use this, so that they agree exactly.

        Args:
            index: the label's index, from 0.
            out: array (H,W) float32 to write into; None for a new one.
        """
        height, width = self.shape
        return cv2.resize(self.maps[index], (width, height), dst=out, interpolation=cv2.INTER_LINEAR)

    def mask(self, index: int) -> np.ndarray:
        """Return the mask (H,W) bool of one label."""
        return self.resize(index, _scratch(self.shape)[0]) >= self.vocabulary.thresholds[index]

    @cached_property
    def decision(self) -> tuple[np.ndarray, np.ndarray]:
        """Label map (H,W) uint16, and the activation (H,W) float32 of the label in it, 0 on background.

        Labels go one at a time through a few buffers, so that no (K,H,W) array is needed. Only the part of a map that
        can reach its threshold is compared.
        """
        label_map, winning = np.zeros(self.shape, np.uint16), np.zeros(self.shape, np.float32)
        buffers = _scratch(self.shape)  # once: those of very large images are new at every call
        for index in self.candidates:
            box, plane = self._resize_reach(index, buffers)
            reaching, number, wins, best, chosen = (buffer[box] for buffer in (*buffers[1:], winning, label_map))
            cv2.threshold(plane, self._below(index), 0, cv2.THRESH_TOZERO, dst=reaching)
            cv2.compare(reaching, best, cv2.CMP_GT, dst=wins)  # ties go to the first label
            cv2.max(best, reaching, dst=best)
            number.fill(self.vocabulary.ids[index])
            cv2.copyTo(number, wins, chosen)
        free = np.flatnonzero(self.vocabulary.thresholds == 0)
        if free.size:  # an activation of 0 reaches a threshold of 0, but does not win the comparison above
            label_map[label_map == 0] = self.vocabulary.ids[free[0]]
        return label_map, winning

    def confidence(self) -> np.ndarray:
        """Return the confidence (H,W) float32 in [0, 1], as `Result.confidence` describes it."""
        label_map, winning = self.decision
        plane, largest, *_ = _scratch(self.shape)
        self.resize(0, largest)
        for index in range(1, len(self.vocabulary)):
            cv2.max(largest, self.resize(index, plane), dst=largest)
        confidence = np.subtract(1, largest, dtype=np.float32)
        cv2.copyTo(winning, (label_map > 0).view(np.uint8), confidence)
        return confidence

    def cut(self, index: int) -> tuple[Measures, np.ndarray]:
        """Measure the mask of one label, and cut it to its box.

        Args:
            index: the label's index, from 0.

        Returns:
            The measures, and the mask (h,w) uint8, 0 or 255, which may be a view of a somewhat larger one.
        """
        (rows, columns), plane = self._resize_reach(index, _scratch(self.shape))
        mask = np.empty(plane.shape, np.uint8)  # its caller's: a buffer would have to be copied again
        threshold = self.vocabulary.thresholds[index]
        if plane.size > 1:
            cv2.compare(plane, float(threshold), cv2.CMP_GE, dst=mask)
        else:  # OpenCV takes two numbers for arrays of different sizes
            mask[:] = 255 * (plane >= threshold)
        area = cv2.countNonZero(mask)
        if not area:  # the largest sample lies between pixels
            return NOTHING, mask
        cv2.threshold(plane, self._below(index), 0, cv2.THRESH_TOZERO, dst=plane)  # in place: memory takes the time
        score = min(1.0, max(0.0, cv2.sumElems(plane)[0] / area))  # cv2.mean with a mask takes ten times as long
        x, y, width, height = cv2.boundingRect(mask)
        roi = (columns.start + x, rows.start + y, width, height)
        return Measures(area, score, roi), mask[y : y + height, x : x + width]

    def _resize_reach(self, index: int, buffers: tuple[np.ndarray, ...]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Resample the part of a map that can reach its threshold; every bit is as from `resize`.

        Memory takes more time than arithmetic here. So a map is first stretched to the image's width, and then only the
        columns of the part are stretched to its height. Returns rows, columns and activation (h,w) of the part, which
        is a view of the first buffer.
        """
        rows, columns = self._reach(index)
        height, width = self.shape
        plane, spare, *_ = buffers
        block = _whole_blocks(columns, width)
        size = self.maps.shape[1:]
        work = size[0] / height + (block.stop - block.start) / width  # of the two steps; 1: resample all at once
        if work > 0.9 or not _separable(size, self.shape):
            return (rows, columns), self.resize(index, plane)[rows, columns]
        wide = spare.reshape(-1)[: size[0] * width].reshape(size[0], width)
        part = plane.reshape(-1)[: height * (block.stop - block.start)].reshape(height, -1)
        _resample(self.maps[index], wide)
        _resample(wide[:, block], part)
        return (rows, columns), part[rows, columns.start - block.start : columns.stop - block.start]

    def _below(self, index: int) -> float:
        """Return the number just below a threshold, because THRESH_TOZERO keeps only what is above its limit."""
        return float(np.nextafter(self.vocabulary.thresholds[index], np.float32(-1)))

    def _reach(self, index: int) -> tuple[slice, slice]:
        """Return the rows and columns outside which a label surely is below its threshold."""
        samples = self.maps[index] >= self.vocabulary.thresholds[index] - _ROUNDING
        x, y, width, height = cv2.boundingRect(samples.view(np.uint8))
        return tuple(
            # A pixel is made of the two samples around its middle: those one sample away count as well.
            slice(max(0, int((start - 0.5) * scale) - 1), min(side, int((start + length + 0.5) * scale) + 1))
            for start, length, side, scale in (
                (y, height, self.shape[0], self.shape[0] / samples.shape[0]),
                (x, width, self.shape[1], self.shape[1] / samples.shape[1]),
            )
        )


def _resample(source: np.ndarray, out: np.ndarray) -> None:
    """Resample an array (h,w) float32 bilinearly to the size of another one."""
    cv2.resize(source, out.shape[::-1], dst=out, interpolation=cv2.INTER_LINEAR)


def _whole_blocks(columns: slice, width: int) -> slice:
    """Return the columns of all blocks that some columns touch, at least as many as a block has."""
    start, stop = columns.start // _BLOCK * _BLOCK, min(width, -(-columns.stop // _BLOCK) * _BLOCK)
    if stop - start < _BLOCK:  # the last block of the image may be narrow
        start = max(0, start - _BLOCK)
    return slice(start, stop)


@lru_cache(maxsize=64)
def _separable(size: tuple[int, int], shape: tuple[int, int]) -> bool:
    """Tell whether resampling one side after the other, in blocks, gives the same bits with this build of OpenCV.

    Args:
        size: (h,w) of the maps.
        shape: (H,W) of the image.
    """
    width = shape[1]
    if min(size) < 2 or size[0] > shape[0] or size[1] > width or width < 2 * _BLOCK:
        return False
    noise = np.random.default_rng(0).random(size, np.float32)
    whole, wide = np.empty(shape, np.float32), np.empty((size[0], width), np.float32)
    _resample(noise, whole)
    _resample(noise, wide)
    for columns in (slice(0, 1), slice(width // 2, width // 2 + 1), slice(width - 1, width)):
        block = _whole_blocks(columns, width)
        part = np.empty((shape[0], block.stop - block.start), np.float32)
        _resample(wide[:, block], part)
        if not np.array_equal(part, whole[:, block]):
            return False
    return True


_threads = threading.local()


def _scratch(shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Return this thread's buffers of an image's size: two float32, a uint16 and a uint8, not cleared.

    Fresh memory for every frame would cost as much time as the work on it. Very large images get fresh
    memory, so that it is given back.
    """
    buffers = getattr(_threads, "buffers", None)
    if buffers is None or buffers[0].shape != shape:
        buffers = tuple(np.empty(shape, dtype) for dtype in (np.float32, np.float32, np.uint16, np.uint8))
        _threads.buffers = buffers if buffers[0].size <= _KEPT_PIXELS else None
    return buffers
