"""Pseudo-masks: the averaged network labels pixels among the labels of the caption, and the trained one learns them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def teacher_loss(logits: Tensor, teacher: Tensor, present: Tensor, valid: Tensor, margin: float) -> Tensor:
    """Learn pseudo-masks: a pixel belongs to the caption's label that the teacher finds most active there.

    Activations are compared as shares of their label's largest one in the image, as class activation maps are. So a
    label that the teacher hardly knows gets the pixels that it fits best and that no other label claims. Pixels where
    no share reaches `margin` count for no present label. Absent labels are absent everywhere.

    Args:
        logits: (B,N,H,W) of the trained network.
        teacher: (B,N,H,W) logits of the averaged network.
        present: (B,N) bool, labels of the caption.
        valid: (B,N) bool, False for padding.
        margin: share of a label's largest activation, 0 to 1.

    Returns:
        A scalar, the mean over the pixels that count.
    """
    activation = teacher.sigmoid()
    share = activation / activation.amax(dim=(2, 3), keepdim=True)
    best, winner = share.masked_fill(~present[:, :, None, None], -1).max(dim=1, keepdim=True)
    sure = best > margin  # (B, 1, H, W)
    index = torch.arange(logits.shape[1], device=logits.device)[None, :, None, None]
    target = (winner == index) & sure & present[:, :, None, None]
    counts = torch.where(present[:, :, None, None], sure, valid[:, :, None, None])
    losses = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    return (losses * counts).sum() / counts.sum().clamp(min=1)
