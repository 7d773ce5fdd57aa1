"""Binary cross-entropy of every name at every labelled pixel."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pixel_loss(logits: Tensor, target: Tensor, known: Tensor, valid: Tensor) -> Tensor:
    """Compare maps with masks, pixel by pixel.

    Args:
        logits: (B,K,P) maps.
        target: (B,K,P) bool masks.
        known: (B,P) bool, pixels that count.
        valid: (B,K) bool, names that count.

    Returns:
        A scalar, the mean over known pixels of valid names; 0 where there are none.
    """
    counts = known.unsqueeze(1) & valid.unsqueeze(2)
    losses = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    return (losses * counts).sum() / counts.sum().clamp(min=1)
