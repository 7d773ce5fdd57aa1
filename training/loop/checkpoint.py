"""The one checkpoint format: written whole or not at all, read without unpickling code.

It holds trained weights and buffers; what is frozen comes with the model. It needs no random state, as what a step
draws is a function of seed, step and process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synseg_model.files import write_whole

CHECKPOINT_FILE = "last.pt"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps that are done.
        seconds: of training, over all processes that the run was cut into.
        best: the best validation score.
    """

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf


def save_checkpoint(
    path: Path, seed: int, objective: nn.Module, averaged: nn.Module, optimizer: Any, precision: Any, progress: Progress
) -> None:
    """Write what a run needs to go on.

    Args:
        path: of the file.
        seed: of the run.
        objective: what trains.
        averaged: the moving average of a part of it.
        optimizer, precision: whose state is kept.
        progress: of the run.
    """
    kept = kept_names(objective)
    state = {
        "step": progress.step,
        "seconds": progress.seconds,
        "best": progress.best,
        "seed": seed,
        "weights": {name: value for name, value in objective.state_dict().items() if name in kept},
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": precision.state_dict(),
    }
    write_whole(path, partial(torch.save, state))


def load_checkpoint(
    path: Path, seed: int, objective: nn.Module, averaged: nn.Module, optimizer: Any, precision: Any
) -> Progress:
    """Restore a run in place and return its progress.

    Raises:
        ValueError: the checkpoint is of another seed, objective or network.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not {"seed", "weights", "averaged", "optimizer"} <= set(state):
        raise ValueError(f"{path} is a checkpoint of another program: choose another --trainer.output")
    if state["seed"] != seed:
        raise ValueError(f"{path} was trained with seed {state['seed']}, not {seed}: it cannot go on")
    kept = kept_names(objective)
    if set(state["weights"]) != kept:
        names = sorted(set(state["weights"]) ^ kept)
        raise ValueError(f"{path} is of another objective or network: {names[:4]} differ; choose another output")
    objective.load_state_dict(state["weights"], strict=False)
    averaged.load_state_dict(state["averaged"])
    optimizer.load_state_dict(state["optimizer"])
    precision.load_state_dict(state["precision"])
    return Progress(state["step"], state.get("seconds", 0.0), state.get("best", -math.inf))


def kept_names(objective: nn.Module) -> set[str]:
    """Name what a checkpoint holds: trained weights and buffers."""
    return set(objective.state_dict()) - {name for name, p in objective.named_parameters() if not p.requires_grad}
