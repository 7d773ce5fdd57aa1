"""The result of segmenting one image: activations, masks, label map and confidence, each computed on first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from synseg_model.vocabulary import Vocabulary

__all__ = ["Cutout", "DeviceMaps", "Result"]

# Bilinear weights may round a value up by a few units in the last place: labels this far below are surely
# absent.
_ROUNDING = 1e-5

_KEPT_PIXELS = 1920 * 1080  # largest image whose buffers are kept for the next one: 23 MB


@dataclass(frozen=True)
class _Statistics:
    area: int
    score: float
    roi: tuple[int, int, int, int]


_NOTHING = _Statistics(0, 0.0, (0, 0, 0, 0))


class Cutout(NamedTuple):
    """Hold the mask of one label, cut to its box.

    Attributes:
        index: the label's index in the vocabulary, from 0.
        area, score, roi: as `Result.area`, `Result.score` and `Result.roi` return them.
        mask: (h,w) uint8, 0 or 255.
    """

    index: int
    area: int
    score: float
    roi: tuple[int, int, int, int]
    mask: np.ndarray


class DeviceMaps(Protocol):
    """Keep the activations of one image on a GPU, and compute there what is asked for.

    Attributes:
        shape: (K,h,w) of the activations.
    """

    shape: tuple[int, int, int]

    def numpy(self) -> np.ndarray:
        """Return the activations (K,h,w) float32."""

    def label_map(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return the label map (H,W) uint16, at the size of the image."""

    def confidence(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return the confidence (H,W) float32, at the size of the image."""

    def mask(self, index: int, threshold: np.float32) -> np.ndarray:
        """Return the mask (H,W) bool of the label at `index`."""

    def measure(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Measure all masks.

        Args:
            thresholds: (K,) float32 in [0, 1].

        Returns:
            Areas (K,) in pixels, scores (K,), boxes (K,4) as x, y, width and height, and largest activations (K,). The
            box of an empty mask has no meaning.
        """


class Result:
    """Activations, masks and maps of one image, at the image's size, for every label of a vocabulary.

    Everything is computed from `maps` on first use and kept, except single activations and masks. A label is known by
    its index i, from 0. `label_map` holds the label's id, which is i+1 unless the vocabulary has ids of its own. Arrays
    are read-only, because they are shared.

    Maps on a GPU take its memory as long as the Result lives. The GPU then computes label map, confidence and masks,
    which agree with each other exactly. They agree with `activations`, which the host resamples, except where an
    activation lies within 1e-4 of another one or of its threshold.

    Args:
        vocabulary: the vocabulary that the image was segmented with.
        maps: (K,h,w) float32 in [0, 1] at the network's own resolution, or an object that holds them on a GPU.
        shape: (H,W) of the image in pixels.

    Raises:
        ValueError: for maps that do not fit the vocabulary.

    Example:
        >>> import numpy as np
        >>> from synseg_model import Result, Vocabulary
        >>> vocabulary = Vocabulary(("left", "right"), [0.5, 0.5], np.eye(2), fingerprint="example")
        >>> maps = np.array([[[1, 0]], [[0, 1]]], np.float32)  # (K,h,w) = (2,1,2)
        >>> result = Result(vocabulary, maps, shape=(1, 4))
        >>> result.label_map
        array([[1, 1, 2, 2]], dtype=uint16)
        >>> result.area(0), result.roi(1)
        (2, (2, 0, 2, 1))
    """

    def __init__(self, vocabulary: Vocabulary, maps: np.ndarray | DeviceMaps, shape: tuple[int, int]) -> None:
        if len(maps.shape) != 3 or maps.shape[0] != len(vocabulary) or not all(maps.shape):
            raise ValueError(f"maps of shape {maps.shape}: expected ({len(vocabulary)},h,w), one map per label")
        self.vocabulary = vocabulary
        self.shape = shape
        self._statistics: dict[int, _Statistics] = {}
        self._on_device: DeviceMaps | None = None
        if isinstance(maps, np.ndarray):
            self.maps = np.ascontiguousarray(maps, np.float32)
        else:
            self._on_device = maps

    @cached_property
    def maps(self) -> np.ndarray:
        """Activations (K,h,w) float32 in [0, 1], at the network's own resolution."""
        return self._on_device.numpy()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels, in the order of activations and masks."""
        return self.vocabulary.labels

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the labels in `label_map` and in messages, from 1; 0 is background."""
        return self.vocabulary.ids

    def activation(self, index: int) -> np.ndarray:
        """Return the activation of one label.

        Args:
            index: the label's index, from 0.

        Returns:
            (H,W) float32 in [0, 1].

        Raises:
            IndexError: for an index that the vocabulary does not have.

        Example:
            >>> result.activation(0).round(2).tolist()
            [[1.0, 0.75, 0.25, 0.0]]
        """
        return self._resize(self._check(index))

    def mask(self, index: int) -> np.ndarray:
        """Return the mask of one label: the pixels whose activation reaches the label's threshold.

        Args:
            index: the label's index, from 0.

        Returns:
            (H,W) bool.

        Raises:
            IndexError: for an index that the vocabulary does not have.

        Example:
            >>> result.mask(1).tolist()
            [[False, False, True, True]]
        """
        self._check(index)
        if self._on_device:
            return self._on_device.mask(index, self.vocabulary.thresholds[index])
        return self._resize(index, _scratch(self.shape)[0]) >= self.vocabulary.thresholds[index]

    @cached_property
    def activations(self) -> np.ndarray:
        """Activations (K,H,W) float32 in [0, 1], resampled bilinearly. They take 4 bytes per label and pixel.

        Example:
            >>> result.activations.shape
            (2, 1, 4)
        """
        stack = np.empty((len(self.labels), *self.shape), np.float32)
        for index, plane in enumerate(stack):
            self._resize(index, plane)
        return _frozen(stack)

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks (K,H,W) bool: activation >= threshold. Masks may overlap.

        Example:
            >>> result.masks.sum(axis=(1, 2)).tolist()
            [2, 2]
        """
        stack = np.zeros((len(self.labels), *self.shape), bool)
        for index in self._candidates:
            stack[index] = self.mask(index)
        return _frozen(stack)

    @cached_property
    def label_map(self) -> np.ndarray:
        """Label map (H,W) uint16: the id of the most active label that reaches its threshold, 0 where none does.

        Ties go to the first label.

        Example:
            >>> result.label_map.tolist()
            [[1, 1, 2, 2]]
        """
        return _frozen(self._on_device.label_map(self.vocabulary)) if self._on_device else self._decision[0]

    @cached_property
    def confidence(self) -> np.ndarray:
        """Confidence (H,W) float32 in [0, 1]: the activation of the label in `label_map`.

        On background it is 1 minus the largest activation.

        Example:
            >>> result.confidence.round(2).tolist()
            [[1.0, 0.75, 0.75, 1.0]]
        """
        if self._on_device:
            return _frozen(self._on_device.confidence(self.vocabulary))
        label_map, winning = self._decision
        plane, largest, *_ = _scratch(self.shape)
        self._resize(0, largest)
        for index in range(1, len(self.labels)):
            cv2.max(largest, self._resize(index, plane), dst=largest)
        confidence = np.subtract(1, largest, dtype=np.float32)
        cv2.copyTo(winning, (label_map > 0).view(np.uint8), confidence)
        return _frozen(confidence)

    @cached_property
    def presence(self) -> np.ndarray:
        """Largest activation of each label, (K,) float32 in [0, 1]: how sure the model is that it is in the image.

        It is taken from `maps`, at the network's own resolution. With the engine option keep_labels, labels that are
        not decoded in full have about 0.

        Example:
            >>> result.presence.tolist()
            [1.0, 1.0]
        """
        largest = self._measured[3] if self._on_device else self._largest
        return _frozen(np.clip(largest, 0, 1).astype(np.float32))

    @cached_property
    def present(self) -> tuple[int, ...]:
        """Indices of the labels whose masks are not empty.

        Example:
            >>> result.present
            (0, 1)
        """
        return tuple(index for index in self._candidates if self.area(index))

    def cutouts(self) -> Iterator[Cutout]:
        """Cut each mask that is not empty out of the image, in the order of the labels.

        Each map is resampled once, so this is the fastest way to all masks and their measures.

        Example:
            >>> [(cutout.index, cutout.area, cutout.mask.shape) for cutout in result.cutouts()]
            [(0, 2, (1, 2)), (1, 2, (1, 2))]
        """
        for index in self._candidates:
            if self._on_device:
                found = self._measure(index)
                x, y, width, height = found.roi
                mask = self.mask(index)[y : y + height, x : x + width] * np.uint8(255)
            else:
                found, mask = self._measure_mask(index)
                self._statistics[index] = found
            if found.area:
                yield Cutout(index, found.area, found.score, found.roi, mask.copy())

    def area(self, index: int) -> int:
        """Count the pixels of a label's mask.

        Args:
            index: the label's index, from 0.

        Example:
            >>> result.area(1)
            2
        """
        return self._measure(index).area

    def score(self, index: int) -> float:
        """Average a label's activation inside its mask.

        Args:
            index: the label's index, from 0.

        Returns:
            A number in [0, 1]; 0 for an empty mask.

        Example:
            >>> round(result.score(0), 3)
            0.875
        """
        return self._measure(index).score

    def roi(self, index: int) -> tuple[int, int, int, int]:
        """Return the box around a label's mask.

        Args:
            index: the label's index, from 0.

        Returns:
            (x, y, width, height) in pixels; zeros for an empty mask.

        Example:
            >>> result.roi(0)
            (0, 0, 2, 1)
        """
        return self._measure(index).roi

    @cached_property
    def _candidates(self) -> tuple[int, ...]:
        """Labels that can reach their thresholds: bilinear resampling never exceeds the largest sample."""
        if self._on_device:
            return tuple(np.flatnonzero(self._measured[0]).tolist())
        return tuple(int(i) for i in np.flatnonzero(self._largest >= self.vocabulary.thresholds - _ROUNDING))

    @cached_property
    def _largest(self) -> np.ndarray:
        return self.maps.max(axis=(1, 2))

    @cached_property
    def _measured(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self._on_device.measure(self.vocabulary.thresholds)

    @cached_property
    def _decision(self) -> tuple[np.ndarray, np.ndarray]:
        """Label map, and the winner's activation (0 on background).

        One label at a time through a few buffers, so that no (K,H,W) array is ever needed, and only where it can reach
        its threshold.
        """
        label_map, winning = np.zeros(self.shape, np.uint16), np.zeros(self.shape, np.float32)
        for index in self._candidates:
            self._resize(index, _scratch(self.shape)[0])
            box = self._reach(index)
            plane, reaching, number, wins, best, chosen = (
                buffer[box] for buffer in (*_scratch(self.shape), winning, label_map)
            )
            cv2.threshold(plane, self._below(index), 0, cv2.THRESH_TOZERO, dst=reaching)
            cv2.compare(reaching, best, cv2.CMP_GT, dst=wins)  # ties go to the first label
            cv2.max(best, reaching, dst=best)
            number.fill(self.vocabulary.ids[index])
            cv2.copyTo(number, wins, chosen)
        free = np.flatnonzero(self.vocabulary.thresholds == 0)
        if free.size:  # an activation of 0 reaches a threshold of 0, but does not win the comparison above
            label_map[label_map == 0] = self.vocabulary.ids[free[0]]
        return _frozen(label_map), _frozen(winning)

    def _measure(self, index: int) -> _Statistics:
        if index not in self._statistics:
            self._statistics[self._check(index)] = self._compute_statistics(index)
        return self._statistics[index]

    def _compute_statistics(self, index: int) -> _Statistics:
        if index not in self._candidates:
            return _NOTHING
        if self._on_device:
            area, score, box = (values[index].tolist() for values in self._measured[:3])
            return _Statistics(area, min(1.0, max(0.0, score)), tuple(box))
        return self._measure_mask(index)[0]

    def _measure_mask(self, index: int) -> tuple[_Statistics, np.ndarray]:
        """Measure a mask on the host; returns it inside its box, too: (h,w) uint8 of 0 and 255 in a shared buffer."""
        rows, columns = self._reach(index)
        plane, reaching, _, mask = _scratch(self.shape)
        self._resize(index, plane)
        plane, reaching, mask = (buffer[rows, columns] for buffer in (plane, reaching, mask))
        threshold = self.vocabulary.thresholds[index]
        if plane.size > 1:
            cv2.compare(plane, float(threshold), cv2.CMP_GE, dst=mask)
        else:  # OpenCV takes two numbers for arrays of different sizes
            mask[:] = 255 * (plane >= threshold)
        area = cv2.countNonZero(mask)
        if not area:  # the largest sample lies between pixels
            return _NOTHING, mask
        cv2.threshold(plane, self._below(index), 0, cv2.THRESH_TOZERO, dst=reaching)
        score = min(1.0, max(0.0, cv2.sumElems(reaching)[0] / area))  # cv2.mean with a mask takes ten times as long
        x, y, width, height = cv2.boundingRect(mask)
        roi = (columns.start + x, rows.start + y, width, height)
        return _Statistics(area, score, roi), mask[y : y + height, x : x + width]

    def _below(self, index: int) -> float:
        """Return the number just below a threshold, as THRESH_TOZERO keeps what is above its limit only."""
        return float(np.nextafter(self.vocabulary.thresholds[index], np.float32(-1)))

    def _reach(self, index: int) -> tuple[slice, slice]:
        """Return rows and columns of the image outside which a label surely is below its threshold."""
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

    def _check(self, index: int) -> int:
        if not 0 <= index < len(self.labels):
            raise IndexError(f"label index {index}: the vocabulary has {len(self.labels)} labels, from 0")
        return index

    def _resize(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Resample one map to the image's size: the only place that does, so that outputs agree exactly."""
        height, width = self.shape
        return cv2.resize(self.maps[index], (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


_threads = threading.local()


def _scratch(shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Lend this thread's buffers of an image's size: two float32, a uint16 and a uint8, not cleared.

    Fresh memory for every frame would cost as much time as the work on it. Very large images get fresh
    memory, so that it is given back.
    """
    buffers = getattr(_threads, "buffers", None)
    if buffers is None or buffers[0].shape != shape:
        buffers = tuple(np.empty(shape, dtype) for dtype in (np.float32, np.float32, np.uint16, np.uint8))
        _threads.buffers = buffers if buffers[0].size <= _KEPT_PIXELS else None
    return buffers


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
