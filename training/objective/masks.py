"""What mask training of the decoder minimises."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.scenes.scenes import BASE_NOUNS


class TokenLoss(nn.Module):
    """Ask the blocks before FiLM for tokens that match their noun's and their colour's text (deep supervision).

    Every label competes at every token for the price of one matrix product, where decoding a label costs a block and
    the head. Only training needs it.
    """

    def __init__(self, width: int, nouns: Tensor, colors: Tensor, stuff: float = 0.3):
        super().__init__()
        self.project = nn.Linear(width, nouns.shape[1])
        # Text embeddings share a large common part, which tells nothing apart.
        for name, table in (("nouns", nouns), ("colors", colors)):
            self.register_buffer(name, F.normalize(table - table.mean(dim=0), dim=1).T, persistent=False)
        weight = torch.where(torch.arange(len(nouns)) < len(BASE_NOUNS), 1.0, stuff)
        self.register_buffer("weight", weight.to(nouns.device), persistent=False)

    def forward(self, tokens: Tensor, nouns: Tensor, colors: Tensor) -> Tensor:
        """Compare tokens (B,P,D) with the indices (B,P) of their nouns and colours; -1 counts nowhere."""
        embedding = 20 * F.normalize(self.project(tokens).float(), dim=-1).flatten(0, 1)
        loss = F.cross_entropy(embedding @ self.nouns, nouns.flatten(), self.weight, ignore_index=-1)
        if (colors >= 0).any():
            loss = loss + 0.3 * F.cross_entropy(embedding @ self.colors, colors.flatten(), ignore_index=-1)
        return loss


def mask_loss(
    logits: Tensor, masks: Tensor, balance: float = 0.0, known: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy over all pixels plus Dice over present labels, so that thin things count too.

    logits: (B,K,H,W). masks: (B,K,H,W) bool. balance: from 0, every pixel of a map counts the same, to 1, the pixels
    inside a mask count together as much as those outside. A fresh decoder needs balance: things cover a few percent
    of an image, and without it predicting nothing at all is a minimum that it does not leave. known: (B,H,W) bool, the
    pixels that count; valid: (B,K) bool, the labels that count.
    """
    logits, masks = logits.float().flatten(2), masks.float().flatten(2)
    counts = torch.ones_like(masks[:, :1]) if known is None else known.float().flatten(1).unsqueeze(1)
    if valid is not None:
        counts = counts * valid.unsqueeze(2)
    share = masks.mean(dim=2, keepdim=True)
    even = torch.where(masks > 0, 0.5 / share.clamp(min=0.005), 0.5 / (1 - share).clamp(min=0.05))
    weight = (balance * even + (1 - balance)) * counts
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, weight, reduction="sum")
    cross_entropy = cross_entropy / counts.expand_as(masks).sum().clamp(min=1)
    present = masks.any(dim=2)
    if not present.any():
        return cross_entropy
    probability = logits.sigmoid() * counts
    overlap = 2 * (probability * masks).sum(dim=2) + 1
    dice = 1 - overlap / (probability.sum(dim=2) + masks.sum(dim=2) + 1)
    return cross_entropy + 0.3 * dice[present].mean()


def competition_loss(
    logits: Tensor, masks: Tensor, known: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the softmax over all labels and "none of them", whose logit is 0, at every pixel.

    logits: (B,K,H,W). masks: (B,K,H,W) bool; a pixel may have several right labels ("ball", "red ball") or none. Binary
    cross-entropy asks each label alone; which of two labels is right where both claim a pixel is decided by this.
    known, valid: as in `mask_loss`.
    """
    logits = logits.float()
    if valid is not None:
        logits = logits.masked_fill(~valid[:, :, None, None], -math.inf)
    every = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    right = torch.cat([~masks.any(dim=1, keepdim=True), masks], dim=1)
    losses = every.logsumexp(dim=1) - every.masked_fill(~right, -math.inf).logsumexp(dim=1)
    return losses.mean() if known is None else losses[known].mean() if known.any() else 0 * losses.sum()
