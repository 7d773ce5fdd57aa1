"""A network's own text tower as the project's one embedder of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synseg_model.network.synseg import SynSeg
from synseg_model.text.embedder import PromptEmbedder

CACHED_LABELS = 200_000  # text embeddings kept: 400 MB at 512 floats each
PHRASES_AT_ONCE = 1024


class TextEmbedder(PromptEmbedder):
    """Embed labels with the text tower of a network, as its config asks: templates and normalisation.

    Every label is embedded alone: in a batch its last digits would depend on the others, and so on where a run began.

    Example:
        >>> network, _ = load_model("synseg-tiny")
        >>> TextEmbedder(network)(["red ball", "grass"]).shape
        torch.Size([2, 256])
    """

    def __init__(self, network: SynSeg) -> None:
        """Take a network, on whose device the embeddings are to be."""
        config = network.config
        super().__init__(
            lambda prompts: encode_prompts(network, prompts), config.templates, config.normalize_text,
            remembered=CACHED_LABELS, prompts_at_once=len(config.templates),
        )  # fmt: skip
        self._network = network

    def __call__(self, labels: Sequence[str]) -> Tensor:
        """Return the embeddings (K,C) float32 of labels, on the network's device."""
        return torch.from_numpy(self.embed(labels)).to(_device(self._network))


@torch.no_grad()
def encode_prompts(network: SynSeg, prompts: Sequence[str]) -> np.ndarray:
    """Embed prompts (N,C) float32 with a network's text tower, not normalised."""
    encoder = network.encoder
    return encoder.encode_text(encoder.tokenize(list(prompts)).to(_device(network))).float().cpu().numpy()


def embed_phrases(network: SynSeg, phrases: Sequence[str]) -> np.ndarray:
    """Embed many phrases (N,C) float32 of length 1, without templates."""
    embedder = PromptEmbedder(lambda x: encode_prompts(network, x), ("{}",), True, prompts_at_once=PHRASES_AT_ONCE)
    return embedder.encode(phrases)


def _device(network: SynSeg) -> torch.device:
    return next(network.encoder.parameters()).device
