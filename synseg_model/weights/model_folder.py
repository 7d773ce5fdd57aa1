"""Model folders, `config.json` and `weights.safetensors`: written, and loaded by a model's name."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from synseg_model.config import CONFIG_FILE, PRESETS, WEIGHTS_FILE, ModelConfig
from synseg_model.files import write_whole
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.find import SHIPPED, check_model, is_clipseg_folder, shipped_models
from synseg_model.weights.tensors import fill, fingerprint, read_tensors

__all__ = ["load_model", "save_model"]


def save_model(folder: Path, network: SynSeg, config: ModelConfig, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model folder: the decoder, and both towers where the config includes them.

    The caller adds the merges file of a tokenizer that is not CLIP's.

    Args:
        folder: folder to write.
        network: the network.
        config: its config.
        dtype: floating-point type on disk; loading turns weights to float32.

    Returns:
        The folder.
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
    """Load a network by its name.

    Args:
        model: a shipped model ("synseg-tiny"), a model folder, a CLIPSeg folder or id of the Hugging Face hub
            ("clipseg-rd64-refined", "CIDAS/clipseg-rd64-refined"), or an original CLIPSeg `.pth` file.

    Returns:
        The network in float32 on the CPU, in eval mode; and its fingerprint, a hex digest that changes with any weight
        and with the encoder's identity.

    Raises:
        ModelError: for a model that is missing, damaged or of another kind.
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
