"""Overlap of each map with its mask, so that thin and small things count as much as large ones."""

from __future__ import annotations

from torch import Tensor


def dice_loss(logits: Tensor, target: Tensor, known: Tensor, present: Tensor) -> Tensor:
    """Compute 1 - Dice of maps and masks, over known pixels.

    Args:
        logits: (B,K,P) maps.
        target: (B,K,P) bool masks.
        known: (B,P) bool, pixels that count.
        present: (B,K) bool, names that are in the image.

    Returns:
        A scalar, the mean over present names that have a known pixel; 0 where there are none.
    """
    activation = logits.sigmoid() * known.unsqueeze(1)
    mask = (target & known.unsqueeze(1)).float()
    overlap, sizes = (activation * mask).sum(dim=2), (activation + mask).sum(dim=2)
    losses = 1 - (2 * overlap + 1) / (sizes + 1)
    counts = present & (mask.sum(dim=2) > 0)
    return (losses * counts).sum() / counts.sum().clamp(min=1)
