"""The engine protocol: what a Segmenter needs from whatever runs a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from synseg_model.config import ModelConfig
from synseg_model.result import DeviceMaps
from synseg_model.vocabulary import Vocabulary

__all__ = ["AttentionEngine", "DeviceEngine", "Engine"]


class Engine(Protocol):
    """Run a network for a Segmenter.

    Attributes:
        name: one of `synseg_model.engines.load.ENGINES`, except "auto".
        device: "cpu" or "cuda:N".
        config: the model's config.
        fingerprint: hex digest of the weights; caches of text embeddings are keyed by it.
        independent_labels: whether a label's activations are the same whatever other labels are asked for.

    Example:
        A minimal engine finds each label in the right half of every image:

        >>> import numpy as np
        >>> from synseg_model import Segmenter
        >>> from synseg_model.config import EncoderConfig, ModelConfig
        >>> class RightHalf:
        ...     name, device, fingerprint = "right-half", "cpu", "right-half-1"
        ...     config = ModelConfig(name="right-half", encoder=EncoderConfig(model="none"))
        ...     independent_labels = True
        ...
        ...     def count_tokens(self, text):
        ...         return len(text.split()) + 2
        ...
        ...     def encode_text(self, prompts):
        ...         return np.ones((len(prompts), 4), np.float32)
        ...
        ...     def activations(self, frames, text):
        ...         return [np.tile(np.float32([0, 1]), (len(text), 1, 1)) for frame in frames]
        >>> segmenter = Segmenter(RightHalf())
        >>> vocabulary = segmenter.set_vocabulary(["anything"])
        >>> segmenter.segment(np.zeros((1, 4, 3), np.uint8)).label_map.tolist()
        [[0, 0, 1, 1]]
    """

    name: str
    device: str
    config: ModelConfig
    fingerprint: str
    independent_labels: bool

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a prompt with its start and end marks, without cutting it."""

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        """Embed finished prompts.

        Args:
            prompts: N texts.

        Returns:
            (N,D) float32 as the text tower gives them, not normalised.
        """

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        """Segment frames for labels.

        Args:
            frames: each (H,W,3) uint8 RGB; their sizes may differ.
            text: (K,D) float32 text embeddings.

        Returns:
            For each frame the activations (K,h,w) float32 in [0, 1], at the network's own resolution.
        """


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """Run a network whose activations may stay on its device; a Segmenter uses that where the device is not the CPU."""

    def device_maps(
        self, frames: Sequence[np.ndarray], text: np.ndarray, vocabulary: Vocabulary | None = None
    ) -> list[np.ndarray | DeviceMaps]:
        """Segment as `activations` does, and leave the activations on the device.

        Args:
            frames, text: as `activations` takes them.
            vocabulary: the vocabulary whose embeddings `text` is, where Results will ask for it: an engine may decide
                label maps in the same pass.

        Returns:
            For each frame an object that has the activations on the device. Where the device has too little memory,
            these are arrays (K,h,w) on the host.
        """


@runtime_checkable
class AttentionEngine(Engine, Protocol):
    """Run a network whose image encoder shows its attention, as the refinement "sgc" needs it."""

    def attention(self, frame: np.ndarray, layer: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the self-attention of a block of the image encoder.

        Args:
            frame: (H,W,3) uint8 RGB.
            layer: block, counted from 0, or from the last one with negative numbers.

        Returns:
            (1+P,1+P), where the first token is the class token, and the rows and columns of the P others.

        Raises:
            ValueError: for an image encoder without attention.
        """
