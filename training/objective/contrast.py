"""What CLIP's training minimises: each image's own caption is told from those of the others, and the reverse."""

from __future__ import annotations

import math

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.network.clip_encoder import ClipEncoder
from training.loop.config import TrainerConfig
from training.loop.optimizers import parameter_groups
from training.objective.batch import ContrastBatch

LARGEST_SCALE = math.log(100)  # of the contrast (CLIP)


class ContrastObjective(nn.Module):
    """Both towers of a CLIP in training; the loss is open_clip's own."""

    def __init__(self, encoder: ClipEncoder):
        """Make all weights of the encoder trainable."""
        super().__init__()
        self.encoder = encoder
        encoder.clip.requires_grad_(True)
        self.loss = open_clip.ClipLoss()

    @property
    def averaged(self) -> nn.Module:
        """What the Trainer keeps an average of."""
        return self.encoder.clip

    def parameter_groups(self, config: TrainerConfig) -> list[dict]:
        """Group the trained parameters; the blocks of both towers are for Muon."""
        clip = self.encoder.clip
        blocks = [*clip.visual.transformer.resblocks, *clip.transformer.resblocks]
        return parameter_groups(clip, config.weight_decay, config.learning_rate, blocks)

    def forward(self, batch: ContrastBatch, averaged: nn.Module) -> dict[str, Tensor]:
        """Compute the objective of a batch.

        Args:
            batch: images and captions.
            averaged: is not used.

        Returns:
            Scalars: "total", and "top1", the share of captions whose own image comes first.
        """
        encoder, device = self.encoder, batch.images.device
        limit_scale(encoder.clip)
        grid = tuple(encoder.clip.visual.grid_size)
        position = encoder.window_position(grid, *batch.window)
        image = encoder.image_embedding(batch.images, position)
        text = encoder.encode_text(encoder.tokenize(batch.captions).to(device))
        with torch.autocast(device.type, enabled=False):
            image, text = (F.normalize(features.float(), dim=-1) for features in (image, text))
            total = self.loss(image, text, encoder.clip.logit_scale.exp())
            first = (image @ text.T).detach().argmax(dim=1)
        return {"total": total, "top1": first.eq(torch.arange(len(first), device=device)).float().mean()}


@torch.no_grad()
def limit_scale(clip: nn.Module) -> None:
    """Keep the scale of a CLIP's contrast within its bounds, 1 and 100."""
    clip.logit_scale.clamp_(0, LARGEST_SCALE)
