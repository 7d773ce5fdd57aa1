"""SynSeg's network: frozen CLIP encoder, FiLM, activation decoder (arXiv 2508.06115, section 3.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.config import DECODER_MEMORY, ModelConfig
from synseg_model.network.clip_encoder import ClipEncoder, build_encoder
from synseg_model.network.clipseg_decoder import ClipSegDecoder
from synseg_model.network.conv_encoder import ConvEncoder, build_conv_encoder
from synseg_model.network.skip_decoder import SkipDecoder


class DenseEmbedding(NamedTuple):
    """How an image's tokens are embedded in the space of texts, the same whatever is trained afterwards.

    layers: whose hidden states `embed` takes. embed: turns them into (B,P,C), P tokens of the decoder's `token_grid`.
    """

    layers: tuple[int, ...]
    embed: Callable[[list[Tensor]], Tensor]


class SynSeg(nn.Module):
    """Images and text embeddings in, one map of logits per label out.

    The image is encoded once; all labels are decoded as one batch, in chunks that keep the decoder's working memory
    within `decoder_memory` bytes, so 1,203 labels cost time and no more memory than their own maps.
    """

    def __init__(self, encoder: ClipEncoder | ConvEncoder, config: ModelConfig, decoder_memory: int = DECODER_MEMORY):
        super().__init__()
        self.config = config
        self.decoder_memory = decoder_memory
        self.encoder = encoder
        self.decoder = build_decoder(config, encoder)

    @classmethod
    def from_config(cls, config: ModelConfig, folder: Path | None = None, download: bool = True) -> SynSeg:
        """Build the network; its decoder (and an included encoder) has random weights until they are loaded."""
        if config.encoder.backbone:
            return cls(build_conv_encoder(config.encoder, folder), config)
        return cls(build_encoder(config.encoder, folder, download), config)

    def encode_image(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images (B,3,H,W) once; returns what the decoder's `reduce` makes of them."""
        return self.decoder.reduce(self.encoder.hidden_states(images, self.config.decoder.layers))

    def dense_embedding(self) -> DenseEmbedding:
        """Return how tokens are embedded in the space of texts, as it is now.

        A CLIP does that itself. Behind a convolutional encoder the decoder does, and the result keeps a copy of it.
        Raise ValueError for a decoder that was built without.
        """
        if isinstance(self.decoder, SkipDecoder):
            if not self.config.decoder.dense:
                raise ValueError(
                    f"the model {self.config.name!r} has no dense embeddings (decoder.dense is false in its config): "
                    "choose one that has, or terms and features that do without"
                )
            decoder = copy.deepcopy(self.decoder).requires_grad_(False)
            return DenseEmbedding(self.config.decoder.layers, lambda levels: decoder.reduce(levels)[1].flatten(1, 2))
        encoder = self.encoder
        return DenseEmbedding((encoder.depth - 2,), lambda states: encoder.dense_embedding(states[0]))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return the patches in rows and columns of images (B,3,H,W)."""
        return images.shape[2] // self.encoder.patch, images.shape[3] // self.encoder.patch

    def decode(self, reduced: list[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode text embeddings (K,C) or (B,K,C) against encoded images; returns logits (B,K,h,w).

        h and w are the decoder's own: the input's rows and columns, or a quarter of them with skip connections.
        """
        batch = reduced[0].shape[0]
        width = self.encoder.text_width
        if text.ndim == 2:
            text = text.expand(batch, -1, -1)
        if text.ndim != 3 or text.shape[0] != batch or text.shape[1] < 1 or text.shape[2] != width:
            raise ValueError(f"text of shape {tuple(text.shape)}: expected (K,{width}) or ({batch},K,{width}), K >= 1")
        per_label = batch * self.decoder.bytes_per_label(grid, reduced[0].element_size())
        chunk = max(1, self.decoder_memory // per_label)
        if chunk >= text.shape[1] or torch.is_grad_enabled():  # under autograd chunks would save nothing
            return self.decoder(reduced, text, grid)
        logits = None
        for start in range(0, text.shape[1], chunk):
            part = self.decoder(reduced, text[:, start : start + chunk], grid)
            if logits is None:
                logits = part.new_empty(batch, text.shape[1], *part.shape[2:])
            logits[:, start : start + chunk] = part
        return logits

    def peaks(self, reduced: list[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode at a quarter of the tokens, for what is in the images; returns largest logits (B,K).

        Arguments as `decode` takes them. A fifth of the work, and nearly the same labels come first as in full.
        """
        coarse = self.decoder.coarsen(reduced, grid)
        return self.decode(coarse, text, tuple(-(-side // 2) for side in grid)).amax(dim=(2, 3))

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Segment normalised images.

        images: (B,3,H,W), sides multiples of the patch, square or not.
        text: (K,C) for all images or (B,K,C) for each; embeddings as the model's config asks for.
        Returns logits (B,K,H,W); sigmoid makes activations in [0, 1].
        """
        return enlarge(self.maps(images, text), images.shape[2:])

    def maps(self, images: Tensor, text: Tensor) -> Tensor:
        """Segment as `forward` does; returns logits (B,K,h,w) at the decoder's own resolution, as engines use them."""
        return self.decode(self.encode_image(images), text, self.grid(images))


def build_decoder(config: ModelConfig, encoder: ClipEncoder | ConvEncoder) -> ClipSegDecoder | SkipDecoder:
    """Build the decoder that fits an encoder, with random weights."""
    if isinstance(encoder, ConvEncoder):
        return SkipDecoder(config.decoder, encoder.widths, encoder.text_width, encoder.patch)
    return ClipSegDecoder(config.decoder, encoder.width, encoder.text_width, encoder.patch)


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring logits (B,K,h,w) to an image's size (H,W), bilinear; those that have it come back as they are."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
