"""Checkpoints of the pre-training programs: written whole or not at all, read without unpickling code."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from synseg_model.files import write_whole
from training.loop.optimizers import MuonAdamW
from training.loop.trainer import CHECKPOINT_FILE


def save_checkpoint(folder: Path, module: nn.Module, optimizer: MuonAdamW, step: int) -> Path:
    """Write module, optimiser, step and RNG state atomically to `folder/last.pt`."""
    path = Path(folder) / CHECKPOINT_FILE
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "rng": torch.get_rng_state(),
    }
    write_whole(path, partial(torch.save, state))
    return path


def load_checkpoint(folder: Path, module: nn.Module, optimizer: MuonAdamW) -> int:
    """Restore `folder/last.pt` in place and return its step; 0 where there is none."""
    path = Path(folder) / CHECKPOINT_FILE
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    return state["step"]
