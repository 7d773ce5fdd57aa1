"""Checkpoints of the pre-training programs: written whole or not at all, read without unpickling code."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

CHECKPOINT_FILE = "last.pt"


def save_checkpoint(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> Path:
    """Write module, optimiser, step and RNG state atomically to `folder/last.pt`."""
    path = Path(folder) / CHECKPOINT_FILE
    part = path.with_suffix(".part")
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "rng": torch.get_rng_state(),
    }
    torch.save(state, part)
    os.replace(part, path)
    return path


def load_checkpoint(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore `folder/last.pt` in place and return its step; 0 where there is none."""
    path = Path(folder) / CHECKPOINT_FILE
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    return state["step"]
