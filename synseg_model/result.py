"""The result of segmenting one image: activations, masks, label map and confidence, each computed on first use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from synseg_model.host_maps import NOTHING, HostMaps, Measures
from synseg_model.vocabulary import Vocabulary

__all__ = ["Cutout", "DeviceMaps", "Result"]


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
        """Return the mask of one label.

        Args:
            index: the label's index, from 0.
            threshold: its threshold, in [0, 1].

        Returns:
            (H,W) bool, at the size of the image.
        """

    def measure(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Measure all masks.

        Args:
            thresholds: (K,) float32 in [0, 1].

        Returns:
            Areas (K,) in pixels, scores (K,), boxes (K,4) as x, y, width and height, and largest activations (K,). The
            box of an empty mask has no meaning.
        """


class Result:
    """Give activations, masks and maps of one image, at its size, for every label of a vocabulary.

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
        self._statistics: dict[int, Measures] = {}
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
    def on_device(self) -> bool:
        """Whether maps and masks are computed on a GPU, on the thread that asks for them.

        Example:
            >>> result.on_device
            False
        """
        return self._on_device is not None

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
        return self._on_host.resize(self._check(index))

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
        return self._on_host.mask(index)

    @cached_property
    def activations(self) -> np.ndarray:
        """Activations (K,H,W) float32 in [0, 1], resampled bilinearly. They take 4 bytes per label and pixel.

        Example:
            >>> result.activations.shape
            (2, 1, 4)
        """
        stack = np.empty((len(self.labels), *self.shape), np.float32)
        for index, plane in enumerate(stack):
            self._on_host.resize(index, plane)
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
        if self._on_device:
            return _frozen(self._on_device.label_map(self.vocabulary))
        return _frozen(self._on_host.decision[0])

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
        return _frozen(self._on_host.confidence())

    @cached_property
    def presence(self) -> np.ndarray:
        """Largest activation of each label, (K,) float32 in [0, 1]: how sure the model is that it is in the image.

        It is taken from `maps`, at the network's own resolution. With the engine option keep_labels, labels that are
        not decoded in full have about 0.

        Example:
            >>> result.presence.tolist()
            [1.0, 1.0]
        """
        largest = self._measured[3] if self._on_device else self._on_host.largest
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
                found, mask = self._on_host.cut(index)
                self._statistics[index] = found
            if found.area:
                yield Cutout(index, found.area, found.score, found.roi, np.ascontiguousarray(mask))

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
    def _on_host(self) -> HostMaps:
        return HostMaps(self.maps, self.vocabulary, self.shape)

    @cached_property
    def _candidates(self) -> tuple[int, ...]:
        """Indices of the labels whose masks may not be empty."""
        if self._on_device:
            return tuple(np.flatnonzero(self._measured[0]).tolist())
        return self._on_host.candidates

    @cached_property
    def _measured(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self._on_device.measure(self.vocabulary.thresholds)

    def _measure(self, index: int) -> Measures:
        if index not in self._statistics:
            self._statistics[self._check(index)] = self._compute_statistics(index)
        return self._statistics[index]

    def _compute_statistics(self, index: int) -> Measures:
        if index not in self._candidates:
            return NOTHING
        if self._on_device:
            area, score, box = (values[index].tolist() for values in self._measured[:3])
            return Measures(area, min(1.0, max(0.0, score)), tuple(box))
        return self._on_host.cut(index)[0]

    def _check(self, index: int) -> int:
        if not 0 <= index < len(self.labels):
            raise IndexError(f"label index {index}: the vocabulary has {len(self.labels)} labels, from 0")
        return index


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
