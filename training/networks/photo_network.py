"""Parts of a model for photographs: the text encoder that was trained before, and the levels of a backbone."""

from __future__ import annotations

import json
from pathlib import Path

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from synseg_model.config import ModelError
from synseg_model.network.conv_encoder import STRIDES, level_strides
from training.networks.text_student import TEXT_FILE, WEIGHTS_FILE


def read_text_encoder(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Read what `training.pretrain_text` wrote: its description and its weights in float32.

    Raises:
        ValueError: the folder has none, or it is damaged.
    """
    try:
        about = json.loads((folder / TEXT_FILE).read_text())
        if not isinstance(about, dict) or "context_length" not in about.get("text_cfg", {}):
            raise ValueError(f"{TEXT_FILE} has no text_cfg with a context_length")
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder} holds no text encoder ({error}): "
            f"make one with python -m training.pretrain_text --trainer.output {folder}"
        ) from None
    return about, {name: tensor.float() for name, tensor in weights.items()}


def levels_of(backbone: str) -> tuple[int, ...]:
    """Return the levels of a backbone whose strides the decoder reads; raise ModelError where it lacks one."""
    level_strides(backbone)  # says what is wrong with a name that cannot be used
    # This one draws from the run's generator and must go on doing so: a decoder's first weights are drawn after it, and
    # with others the seed in a model's config would start another run.
    strides = list(timm.create_model(backbone, features_only=True).feature_info.reduction())
    if not set(STRIDES) <= set(strides):
        raise ModelError(f"backbone {backbone!r} has levels of strides {strides}: expected {list(STRIDES)}")
    return tuple(strides.index(stride) for stride in STRIDES)
