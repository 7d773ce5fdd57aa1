"""Which accelerator and which precision a run takes on this machine."""

from __future__ import annotations

import torch

from training.loop.config import TrainerConfig


def check_accelerator(name: str) -> None:
    """Raise ValueError for an accelerator that is unknown or that this machine does not have."""
    there = {
        "auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "gpu": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }  # fmt: skip
    if name not in there:
        raise ValueError(f"accelerator is {name!r}: expected auto, cpu, cuda or mps")
    if not there[name]:
        raise ValueError(f"accelerator is {name!r}, and torch finds none here: choose auto or cpu")


def chosen_precision(config: TrainerConfig) -> str:
    """Return Fabric's name of a precision, "auto" and "fast" resolved for this machine."""
    if config.precision not in ("auto", "fast"):
        return config.precision
    if torch.cuda.is_available() and config.accelerator != "cpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if config.precision == "fast" and fast else "32-true"
