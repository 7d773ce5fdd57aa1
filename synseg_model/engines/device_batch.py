"""Activations that stay on a GPU: what Results ask for is computed there, and only that comes down. Needs no torch."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from synseg_model.vocabulary import Vocabulary

Array = TypeVar("Array")  # an array on the device

BYTES_PER_LABEL_AND_PIXEL = 16  # what thresholding one label takes at an image's size: a few planes of four bytes


def labels_at_once(memory: int, batch: int, size: tuple[int, int]) -> int:
    """Count the labels whose planes, of a batch of frames of size (H,W), fit into memory; at least one."""
    return max(1, memory // (BYTES_PER_LABEL_AND_PIXEL * batch * size[0] * size[1]))


class DeviceBatch(ABC, Generic[Array]):
    """Activations of frames of one size on a device, for as long as something refers to them.

    shape: (B,K,h,w) of the activations, h and w the network's own. size: (H,W) of the frames.
    """

    def __init__(self, shape: tuple[int, int, int, int], size: tuple[int, int]) -> None:
        self.shape, self.size = shape, size
        self._lock = threading.Lock()
        self._decision: tuple[Vocabulary, list[tuple[Array, Array]]] | None = None

    def frames(self) -> list[FrameMaps]:
        return [FrameMaps(self, row) for row in range(self.shape[0])]

    def decision(self, vocabulary: Vocabulary) -> list[tuple[Array, Array]]:
        """Decide label map and confidence of every frame at once, when the first of them asks."""
        with self._lock:
            if self._decision is None or self._decision[0] is not vocabulary:
                self._decision = vocabulary, self._decide(vocabulary)
            return self._decision[1]

    @abstractmethod
    def download(self, array: Array, dtype: type) -> np.ndarray:
        """Copy an array of `decision` to the host, into memory of its own."""

    @abstractmethod
    def activations(self, row: int) -> np.ndarray:
        """Copy a frame's activations (K,h,w) float32 to the host."""

    @abstractmethod
    def measure(self, row: int, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Measure the masks of a frame; returns what `on_device.masks` makes: numbers (K,5), sums and peaks (K,)."""

    @abstractmethod
    def mask(self, row: int, index: int, threshold: np.float32) -> np.ndarray:
        """Return the mask (H,W) bool of one label."""

    @abstractmethod
    def _decide(self, vocabulary: Vocabulary) -> list[tuple[Array, Array]]:
        """Make label map (H,W), of integers, and confidence (H,W) float32 of every frame, on the device."""


@dataclass(frozen=True)
class FrameMaps:
    """One frame's share of a batch, as Result asks for it (`synseg_model.result.DeviceMaps`)."""

    batch: DeviceBatch
    row: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.batch.shape[1:]

    def numpy(self) -> np.ndarray:
        return self.batch.activations(self.row)

    def label_map(self, vocabulary: Vocabulary) -> np.ndarray:
        return self.batch.download(self.batch.decision(vocabulary)[self.row][0], np.uint16)

    def confidence(self, vocabulary: Vocabulary) -> np.ndarray:
        return self.batch.download(self.batch.decision(vocabulary)[self.row][1], np.float32)

    def mask(self, index: int, threshold: np.float32) -> np.ndarray:
        return self.batch.mask(self.row, index, threshold)

    def measure(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        numbers, sums, peaks = self.batch.measure(self.row, thresholds)
        areas, (left, top, right, bottom) = numbers[:, 0], numbers[:, 1:].T
        boxes = np.stack([left, top, right - left + 1, bottom - top + 1], axis=1)
        return areas, sums / np.maximum(areas, 1), boxes, peaks
