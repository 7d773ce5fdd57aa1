"""What the Segmenter asks of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from synseg_model.config import ModelConfig
from synseg_model.result import DeviceMaps
from synseg_model.vocabulary import Vocabulary


class Engine(Protocol):
    """What the Segmenter asks of an engine.

    name: one of ENGINES but "auto". device: "cpu" or "cuda:0". fingerprint: hex digest of the weights, part of cache
    keys. independent_labels: whether a label's activations are the same whatever other labels are asked for.
    """

    name: str
    device: str
    config: ModelConfig
    fingerprint: str
    independent_labels: bool

    def count_tokens(self, text: str) -> int:
        """Count a prompt's tokens with start and end marks, never truncated."""

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        """Embed finished prompts; returns (N, D) float32 as CLIP's text tower gives them, not normalised."""

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        """Segment frames (H,W,3) uint8 RGB of any sizes for text embeddings (K, D) float32.

        Returns for each frame the activations (K, h, w) float32 in [0, 1] at the network's own resolution.
        """


class DeviceEngine(Engine, Protocol):
    """An engine that can leave activations on its device; used so where the device is not the CPU."""

    def device_maps(
        self, frames: Sequence[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None = None
    ) -> list[np.ndarray | DeviceMaps]:
        """Segment as `activations` does; returns what has each frame's activations on the device.

        vocabulary: the one that Results will ask for, whose embeddings `text` is; an engine may decide label maps in
        the same pass. Arrays of the host come back where the device has no memory for all of them.
        """
