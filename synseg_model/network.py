"""SynSeg's network: frozen CLIP encoder, FiLM, activation decoder (arXiv 2508.06115, section 3.1)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.clip_encoder import ClipEncoder, build_encoder
from synseg_model.config import DECODER_MEMORY, ModelConfig
from synseg_model.decoder import ActivationDecoder


class SynSeg(nn.Module):
    """Images and text embeddings in, one map of logits per label out.

    The image is encoded once; all labels are decoded as one batch, in chunks that keep the decoder's working memory
    within `decoder_memory` bytes, so 1,203 labels cost time and no more memory than their own maps.
    """

    def __init__(self, encoder: ClipEncoder, config: ModelConfig, decoder_memory: int = DECODER_MEMORY):
        super().__init__()
        self.config = config
        self.decoder_memory = decoder_memory
        self.encoder = encoder
        self.decoder = ActivationDecoder(config.decoder, encoder.width, encoder.text_width, encoder.patch)

    @classmethod
    def from_config(cls, config: ModelConfig, folder: Path | None = None, download: bool = True) -> SynSeg:
        """Build the network; its decoder (and an included encoder) has random weights until they are loaded."""
        return cls(build_encoder(config.encoder, folder, download), config)

    def encode_image(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images (B,3,H,W) once; returns reduced hidden states (B,1+P,D), deepest first."""
        with torch.no_grad():  # the encoder is frozen
            states = self.encoder.hidden_states(images, self.config.decoder.layers)
        return self.decoder.reduce(states)

    def decode(self, reduced: list[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode text embeddings (K,C) or (B,K,C) against encoded images; returns logits (B,K,H,W)."""
        batch, tokens = reduced[0].shape[:2]
        width = self.encoder.text_width
        if text.ndim == 2:
            text = text.expand(batch, -1, -1)
        if text.ndim != 3 or text.shape[0] != batch or text.shape[1] < 1 or text.shape[2] != width:
            raise ValueError(f"text of shape {tuple(text.shape)}: expected (K,{width}) or ({batch},K,{width}), K >= 1")
        per_label = batch * self.decoder.bytes_per_label(tokens, reduced[0].element_size())
        chunk = max(1, self.decoder_memory // per_label)
        if chunk >= text.shape[1] or torch.is_grad_enabled():  # under autograd chunks would save nothing
            return self.decoder(reduced, text, grid)
        patch = self.encoder.patch
        logits = reduced[0].new_empty(batch, text.shape[1], grid[0] * patch, grid[1] * patch)
        for start in range(0, text.shape[1], chunk):
            part = text[:, start : start + chunk]
            logits[:, start : start + chunk] = self.decoder(reduced, part, grid)
        return logits

    def peaks(self, reduced: list[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode at a quarter of the tokens, for what is in the pictures; returns largest logits (B,K).

        Arguments as `decode` takes them. A fifth of the work, and nearly the same labels come first as in full.
        """
        coarse = [self._average_pairs(tokens, grid) for tokens in reduced]
        return self.decode(coarse, text, tuple(-(-side // 2) for side in grid)).amax(dim=(2, 3))

    def _average_pairs(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Average tokens (B,1+P,D) in blocks of 2x2, smaller ones at odd ends; the class token stays."""
        picture = tokens[:, 1:].unflatten(1, grid).permute(0, 3, 1, 2)
        blocks = F.avg_pool2d(picture, 2, ceil_mode=True)
        return torch.cat([tokens[:, :1], blocks.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Segment normalised images.

        images: (B,3,H,W), sides multiples of the patch, square or not.
        text: (K,C) for all images or (B,K,C) for each; embeddings as the model's config asks for.
        Returns logits (B,K,H,W); sigmoid makes activations in [0, 1].
        """
        grid = (images.shape[2] // self.encoder.patch, images.shape[3] // self.encoder.patch)
        return self.decode(self.encode_image(images), text, grid)
