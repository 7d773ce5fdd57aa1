"""Labels compete for pixels: cross-entropy of a choice among all labels and "none of them", whose logit is 0.

Binary cross-entropy asks each label alone. Which of two labels is right where both claim a pixel is decided by this.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_competition(logits: Tensor, masks: Tensor, valid: Tensor | None = None) -> Tensor:
    """Compute the loss of each pixel's choice.

        -log sum_right p,   p = softmax over [0, logits]

    A pixel of several right labels ("office chair", "chair") may give its weight to any of them; one without a label
    gives it to none.

    Args:
        logits: (B,N,...) maps.
        masks: (B,N,...) bool, where each label is.
        valid: (B,N) bool, labels that compete; all of them by default.

    Returns:
        (B,...) losses.
    """
    if valid is not None:
        valid = valid.view(*valid.shape, *[1] * (logits.ndim - 2))
        logits, masks = logits.masked_fill(~valid, -torch.inf), masks & valid
    every = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    right = torch.cat([~masks.any(dim=1, keepdim=True), masks], dim=1)
    return every.logsumexp(dim=1) - every.masked_fill(~right, -torch.inf).logsumexp(dim=1)


def competition_loss(
    logits: Tensor, masks: Tensor, known: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Average the losses of `pixel_competition` over the pixels that are known.

    Args:
        logits: (B,N,H,W).
        masks: (B,N,H,W) bool.
        known: (B,H,W) bool, the pixels that count; all of them by default.
        valid: (B,N) bool, the labels that compete; all of them by default.

    Returns:
        A scalar; 0 where no pixel is known.
    """
    losses = pixel_competition(logits.float(), masks, valid)
    return losses.mean() if known is None else losses[known].mean() if known.any() else 0 * losses.sum()


def flat_competition_loss(logits: Tensor, target: Tensor, known: Tensor, valid: Tensor) -> Tensor:
    """Average the losses of `pixel_competition` over known pixels of flat maps, whose shape no data changes.

    Args:
        logits: (B,K,P) maps.
        target: (B,K,P) bool masks.
        known: (B,P) bool, pixels that count.
        valid: (B,K) bool, names that compete.

    Returns:
        A scalar; 0 where no pixel is known.
    """
    losses = pixel_competition(logits, target, valid)
    return (losses * known).sum() / known.sum().clamp(min=1)
