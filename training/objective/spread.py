"""A name of a caption does not cover the whole image."""

from __future__ import annotations

from torch import Tensor


def spread_loss(maps: Tensor, present: Tensor, largest: float) -> Tensor:
    """Ask that the maps of present names cover at most a share of the image.

    Args:
        maps: (B,K,P) logits.
        present: (B,K) bool.
        largest: that share, from 0 to 1.

    Returns:
        A scalar: what the mean activation of a present name exceeds that share by, averaged over present names.
    """
    excess = (maps.sigmoid().mean(dim=2) - largest).clamp(min=0)
    return (excess * present).sum() / present.sum().clamp(min=1)
