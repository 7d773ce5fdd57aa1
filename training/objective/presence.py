"""Whether a label is in an image at all, learned from the image as a whole (multiple-instance learning)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def top_score(maps: Tensor, share: float) -> Tensor:
    """Average the most active part of each map.

    Args:
        maps: (B,N,P) logits.
        share: of the P values that are averaged, the largest ones; at least one value is.

    Returns:
        (B,N) scores.
    """
    return maps.topk(max(1, round(share * maps.shape[2])), dim=2).values.mean(dim=2)


def score_loss(scores: Tensor, present: Tensor, valid: Tensor) -> Tensor:
    """Compute the binary cross-entropy of scores; present labels together weigh as much as absent ones.

    Args:
        scores: (B,N) logits.
        present: (B,N) bool, labels that are in the image.
        valid: (B,N) bool, False for padding.

    Returns:
        A scalar; 0 where no label is valid.
    """
    losses = F.binary_cross_entropy_with_logits(scores, present.float(), reduction="none")
    parts = [losses[mask].mean() for mask in (present, valid & ~present) if mask.any()]
    return sum(parts) / len(parts) if parts else 0 * scores.sum()


def presence_loss(logits: Tensor, present: Tensor, valid: Tensor, share: float = 0.05) -> Tensor:
    """Ask the most active tokens of each label whether it is in the image.

    Args:
        logits: (B,N,P) maps.
        present: (B,N) bool, labels that are in the image.
        valid: (B,N) bool, False for padding.
        share: of the tokens that are asked, above 0 and up to 1.

    Returns:
        A scalar; present and absent labels weigh the same.
    """
    return score_loss(top_score(logits, share), present, valid)
