"""The tensors of a weights file: read, checked against the network, digested."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from synseg_model.config import ModelConfig, ModelError
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.safetensors_file import open_tensors


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file.

    Args:
        path: the file.

    Raises:
        ModelError: where the file is missing or damaged.
    """
    with open_tensors(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def fill(network: SynSeg, tensors: dict[str, torch.Tensor], included: bool, where: object) -> None:
    """Copy tensors into a network.

    Args:
        network: the network.
        tensors: tensors by their names in the network.
        included: whether the tensors are those of the whole network, or of the decoder alone.
        where: what an error message calls the source of the tensors.

    Raises:
        ModelError: for keys that are missing, unknown or of another shape, and for values that are not finite; the
            message names the first of them.
    """
    expected = {
        name: tensor for name, tensor in network.state_dict().items() if included or name.startswith("decoder.")
    }
    problems = []
    for title, keys in (("missing", expected.keys() - tensors.keys()), ("unknown", tensors.keys() - expected.keys())):
        if keys:
            problems.append(f"{title} keys {_some(sorted(keys))}")
    shapes = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & tensors.keys())
        if tensors[key].shape != expected[key].shape
    ]
    if shapes:
        problems.append(f"wrong shapes: {_some(shapes)}")
    if problems:
        raise ModelError(f"{where} does not fit its config: {'; '.join(problems)}")
    broken = [key for key, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise ModelError(f"{where} holds values that are not finite in {_some(sorted(broken))}")
    network.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=False)


def _some(items: list[str], most: int = 5) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")


def fingerprint(weights: Path, config: ModelConfig) -> str:
    """Digest a weights file, and what decides the rest of the network.

    Args:
        weights: the file.
        config: the model's config.

    Returns:
        A hex digest.
    """
    digest = hashlib.sha256()
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    identity = {
        "encoder": [config.encoder.model, config.encoder.pretrained, config.encoder.included],
        "merges": config.encoder.merges,
        "context_length": config.context_length,
    }
    if config.encoder.backbone:  # models without a backbone keep their older fingerprint
        identity["backbone"] = [config.encoder.backbone, *config.encoder.levels]
    digest.update(json.dumps(identity, sort_keys=True).encode())
    return digest.hexdigest()
