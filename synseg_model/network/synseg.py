"""SynSeg's network: a frozen encoder, FiLM and a decoder of activation maps (arXiv 2508.06115, section 3.1)."""

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

__all__ = ["DenseEmbedding", "SynSeg", "build_decoder", "enlarge"]


class DenseEmbedding(NamedTuple):
    """Hold how an image's tokens are embedded in the space of texts; later training does not change it.

    Attributes:
        layers: the layers whose hidden states `embed` takes.
        embed: turns hidden states into (B,P,C), for the P tokens of the decoder's `token_grid`.
    """

    layers: tuple[int, ...]
    embed: Callable[[list[Tensor]], Tensor]


class SynSeg(nn.Module):
    """Segment images for labels: images and text embeddings in, one map of logits per label out.

    The image is encoded once. All labels are decoded as one batch, in chunks that bound the decoder's working memory.
    So 1,203 labels cost time, and no more memory than their own maps.

    Source: SynSeg, arXiv 2508.06115, section 3.1.

    Args:
        encoder: the image and text encoder.
        config: the model's config; the decoder is built from it, with random weights.
        decoder_memory: working memory of the decoder in bytes.

    Example:
        >>> import torch
        >>> from synseg_model.weights.model_folder import load_model
        >>> network, fingerprint = load_model("synseg-tiny")
        >>> images = torch.zeros(1, 3, 96, 128)  # (B,3,H,W)
        >>> tokens = network.encoder.tokenize(["a photo of a red ball.", "a photo of grass."])
        >>> with torch.no_grad():
        ...     logits = network(images, network.encoder.encode_text(tokens))
        >>> logits.shape  # (B,K,H,W)
        torch.Size([1, 2, 96, 128])
    """

    def __init__(self, encoder: ClipEncoder | ConvEncoder, config: ModelConfig, decoder_memory: int = DECODER_MEMORY):
        super().__init__()
        self.config = config
        self.decoder_memory = decoder_memory
        self.encoder = encoder
        self.decoder = build_decoder(config, encoder)

    @classmethod
    def from_config(cls, config: ModelConfig, folder: Path | None = None, download: bool = True) -> SynSeg:
        """Build a network with random weights, except for a public encoder's.

        Args:
            config: the model's config.
            folder: the model folder, which holds the tokenizer's merges where `config` names them.
            download: False leaves public weights random.

        Raises:
            ModelError: where the encoder cannot be built.
        """
        if config.encoder.backbone:
            return cls(build_conv_encoder(config.encoder, folder), config)
        return cls(build_encoder(config.encoder, folder, download), config)

    def encode_image(self, images: Tensor) -> list[Tensor]:
        """Encode images once, for any labels.

        Args:
            images: (B,3,H,W) normalised; sides are multiples of the patch.

        Returns:
            What the decoder's `reduce` makes of the hidden states.
        """
        return self.decoder.reduce(self.encoder.hidden_states(images, self.config.decoder.layers))

    def dense_embedding(self) -> DenseEmbedding:
        """Return how tokens are embedded in the space of texts, as it is now.

        A CLIP encoder does that itself. Behind a convolutional encoder the decoder does it, and the result keeps a copy
        of the decoder.

        Raises:
            ValueError: for a decoder without dense embeddings.
        """
        if isinstance(self.decoder, SkipDecoder):
            if not self.config.decoder.dense:
                raise ValueError(
                    f"the model {self.config.name!r} has no dense embeddings (decoder.dense is false in its config): "
                    "choose a model that has them, or loss terms that need none"
                )
            decoder = copy.deepcopy(self.decoder).requires_grad_(False)
            return DenseEmbedding(self.config.decoder.layers, lambda levels: decoder.reduce(levels)[1].flatten(1, 2))
        encoder = self.encoder
        return DenseEmbedding((encoder.depth - 2,), lambda states: encoder.dense_embedding(states[0]))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches in images (B,3,H,W)."""
        return images.shape[2] // self.encoder.patch, images.shape[3] // self.encoder.patch

    def decode(self, reduced: list[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode labels against encoded images.

        Args:
            reduced: what `encode_image` returned.
            text: embeddings (K,C) for all images, or (B,K,C) for each.
            grid: rows and columns of patches.

        Returns:
            Logits (B,K,h,w). h and w are the decoder's own: the rows and columns of the input, or a quarter of them
            with skip connections.

        Raises:
            ValueError: for text of another shape.
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
        """Decode at a quarter of the tokens, to know which labels are in the images.

        This is a fifth of the work, and nearly the same labels come first as in full.

        Args:
            reduced, text, grid: as `decode` takes them.

        Returns:
            Largest logits (B,K).
        """
        coarse = self.decoder.coarsen(reduced, grid)
        return self.decode(coarse, text, tuple(-(-side // 2) for side in grid)).amax(dim=(2, 3))

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Segment normalised images.

        Args:
            images: (B,3,H,W); sides are multiples of the patch and need not be equal.
            text: (K,C) for all images, or (B,K,C) for each; embeddings as the model's config asks for.

        Returns:
            Logits (B,K,H,W); their sigmoid is the activation in [0, 1].

        Raises:
            ValueError: for images or text of another shape.
        """
        return enlarge(self.maps(images, text), images.shape[2:])

    def maps(self, images: Tensor, text: Tensor) -> Tensor:
        """Segment as `forward` does, at the decoder's own resolution, as engines use it.

        Args:
            images, text: as `forward` takes them.

        Returns:
            Logits (B,K,h,w).
        """
        return self.decode(self.encode_image(images), text, self.grid(images))


def build_decoder(config: ModelConfig, encoder: ClipEncoder | ConvEncoder) -> ClipSegDecoder | SkipDecoder:
    """Build the decoder that fits an encoder, with random weights.

    Args:
        config: the model's config.
        encoder: the encoder, whose kind chooses the decoder's.
    """
    if isinstance(encoder, ConvEncoder):
        return SkipDecoder(config.decoder, encoder.widths, encoder.text_width, encoder.patch)
    return ClipSegDecoder(config.decoder, encoder.width, encoder.text_width, encoder.patch)


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring logits to the size of an image, bilinear.

    Args:
        logits: (B,K,h,w); they come back as they are where they have that size.
        size: rows H and columns W.

    Returns:
        (B,K,H,W).
    """
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
