"""Maps learn masks: exact ones of generated scenes, or those that a model made of captions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.objective.competition import competition_loss

DICE = 0.3  # weight of Dice beside cross-entropy
COMPETITION = 0.5  # weight of the competition for pixels beside both


def mask_loss(
    logits: Tensor, masks: Tensor, balance: float = 0.0, known: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Compute binary cross-entropy over all pixels plus Dice over present labels, so that thin things count too.

    A fresh decoder needs balance: things cover a few percent of an image, and without balance the decoder does not
    leave the minimum of predicting nothing at all.

    Args:
        logits: (B,K,H,W).
        masks: (B,K,H,W) bool.
        balance: from 0, every pixel of a map counts the same, to 1, the pixels inside a mask count together as much as
            those outside.
        known: (B,H,W) bool, the pixels that count; all of them by default.
        valid: (B,K) bool, the labels that count; all of them by default.

    Returns:
        A scalar.
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
    return cross_entropy + DICE * dice[present].mean()


def mask_terms(
    logits: Tensor, masks: Tensor, balance: float = 0.0, known: Tensor | None = None, valid: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute "masks", `mask_loss`; "competition", `competition_loss`; and "total", their weighted sum.

    The arguments are those of `mask_loss`.
    """
    found = {
        "masks": mask_loss(logits, masks, balance, known, valid),
        "competition": competition_loss(logits, masks, known, valid),
    }
    return {**found, "total": found["masks"] + COMPETITION * found["competition"]}
