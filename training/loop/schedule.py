"""Precision and parameter groups that the pre-training programs share."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Split trainable parameters: weight decay for matrices, none for biases, norms and embeddings of one vector."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def autocast(device: torch.device) -> AbstractContextManager:
    """Compute in bfloat16 where that is fast: on GPUs and on CPUs with instructions for it (AMX, AVX512-BF16)."""
    fast = device.type != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
