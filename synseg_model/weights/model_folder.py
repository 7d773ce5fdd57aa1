"""Model folders: `config.json` + `weights.safetensors`, and where a model's name leads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from synseg_model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig, ModelError
from synseg_model.files import write_whole
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.inspect import PRESETS, SHIPPED, check_model, is_clipseg_folder, shipped_models


def save_model(folder: Path, network: SynSeg, config: ModelConfig, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model folder: the decoder, and the towers of image and text where `config.encoder.included`.

    dtype: floating-point type on disk; weights are always computed with in float32 after loading.
    A tokenizer's merges file is the caller's to put beside them.
    """
    folder = Path(folder)
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
        if config.encoder.included or name.startswith("decoder.")
    }
    write_whole(folder / WEIGHTS_FILE, lambda file: file.write(save(tensors, metadata={"format": "pt"})))
    write_whole(folder / CONFIG_FILE, lambda file: file.write(config.to_json().encode()))
    return folder


def load_model(model: str | Path) -> tuple[SynSeg, str]:
    """Load a network by name and return it with its fingerprint, in float32 on the CPU, in eval mode.

    model: a shipped name ("synseg-tiny"), a model folder, a CLIPSeg folder or id of the Hugging Face hub
        ("clipseg-rd64-refined", "CIDAS/clipseg-rd64-refined"), or an original CLIPSeg `.pth` file.
    The fingerprint is a hex digest that changes with any weight and with the encoder's identity.
    Raise ModelError, in one line, for a model that is missing, damaged or of another kind.
    """
    check_model(model)
    name = str(model)
    if name in shipped_models():
        return _load_folder(SHIPPED / name)
    from synseg_model.weights import clipseg as clipseg_import

    path = Path(name).expanduser()
    if path.is_dir():
        if is_clipseg_folder(path):
            return clipseg_import.from_hugging_face(path)
        return _load_folder(path)
    if path.is_file():
        return clipseg_import.from_original(path)
    return clipseg_import.from_hub(PRESETS.get(name, name))


def _load_folder(folder: Path) -> tuple[SynSeg, str]:
    config = ModelConfig.read(folder)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    network = SynSeg.from_config(config, folder)
    fill(network, tensors, included=config.encoder.included, where=folder / WEIGHTS_FILE)
    return network.eval(), fingerprint(folder / WEIGHTS_FILE, config)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; raise ModelError where it is missing or damaged."""
    if not path.exists():
        raise ModelError(f"no {path.name} in {path.parent}: the model folder is incomplete")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy or download it again") from None


def fill(network: SynSeg, tensors: dict[str, torch.Tensor], included: bool, where: object) -> None:
    """Copy tensors into a network; raise ModelError naming every key that is missing, unknown or misshapen."""
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
    """Digest a weights file and what decides the rest of the network."""
    digest = hashlib.sha256()
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    identity = {
        "encoder": [config.encoder.model, config.encoder.pretrained, config.encoder.included],
        "merges": config.encoder.merges,
        "context_length": config.context_length,
    }
    if config.encoder.backbone:  # others keep the fingerprint that they had before there were backbones
        identity["backbone"] = [config.encoder.backbone, *config.encoder.levels]
    digest.update(json.dumps(identity, sort_keys=True).encode())
    return digest.hexdigest()
