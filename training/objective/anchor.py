"""Maps stay near what the frozen encoder's own dense embeddings say of each label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def anchor_loss(logits: Tensor, dense: Tensor, text: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Tie maps to the share that the dense similarity gives each label among those of its caption.

    Args:
        logits: (B,N,P) maps.
        dense: (B,P,C) frozen dense embeddings.
        text: (B,N,C) label embeddings.
        present: (B,N) bool, labels of the caption.
        temperature: of the softmax over labels, above 0.

    Returns:
        A scalar, the mean over present labels and tokens.
    """
    similarity = F.normalize(text.float(), dim=-1) @ F.normalize(dense.float(), dim=-1).mT  # (B, N, P)
    similarity = similarity - similarity.mean(dim=2, keepdim=True)  # every label is alike on average over the image
    target = (similarity / temperature).masked_fill(~present.unsqueeze(2), -torch.inf).softmax(dim=1)
    losses = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none")
    return losses[present].mean()
