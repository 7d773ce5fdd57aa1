"""Learning-rate schedule and parameter groups shared by all training programs."""

from __future__ import annotations

import math

from torch import nn


def cosine_with_warmup(step: int, warmup: int, progress: float) -> float:
    """Return the learning rate's factor in [0, 1]: linear warm-up, then half a cosine over `progress` in [0, 1]."""
    ramp = min(1.0, (step + 1) / max(1, warmup))
    return ramp * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Split trainable parameters: weight decay for matrices, none for biases, norms and embeddings of one vector."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
