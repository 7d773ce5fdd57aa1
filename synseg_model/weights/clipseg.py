"""CLIPSeg's published weights as a SynSeg network: Hugging Face folders and ids, and the original `.pth` files.

Every key is accounted for: an unknown or missing key is an error that names it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig, ModelError
from synseg_model.install_hints import without_network
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.tensors import fill, fingerprint, read_tensors

HUB_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin")
PHRASE = ("a photo of a {}.",)  # CLIPSeg trained with this prompt among others


def from_hub(repository: str) -> tuple[SynSeg, str]:
    """Download a CLIPSeg repository of the Hugging Face hub, or find it in the local cache, and import it.

    Args:
        repository: its id, such as "CIDAS/clipseg-rd64-refined".

    Returns:
        The network in eval mode, and its fingerprint.

    Raises:
        ModelError: where the repository cannot be downloaded or imported.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, allow_patterns=list(HUB_FILES[:3]))
        if not (Path(folder) / "model.safetensors").exists():
            folder = snapshot_download(repository, allow_patterns=list(HUB_FILES))
    except Exception as error:  # errors of network, hub and disk: the advice is the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no details"
        raise ModelError(
            f"cannot download the model {repository!r} ({type(error).__name__}: {reason}); this needs a network once. "
            + without_network(repository)
        ) from None
    return from_hugging_face(Path(folder), name=repository.rpartition("/")[2])


def from_hugging_face(folder: Path, name: str | None = None) -> tuple[SynSeg, str]:
    """Import `CLIPSegForImageSegmentation` as `save_pretrained` writes it, both CLIP towers included.

    Args:
        folder: the folder with config.json and the weights.
        name: the model's name; None for the folder's.

    Returns:
        The network in eval mode, and its fingerprint.

    Raises:
        ModelError: for weights that are missing, damaged or of another kind.
    """
    config = _hugging_face_config(folder, name or folder.name)
    weights = folder / "model.safetensors"
    if weights.exists():
        source = read_tensors(weights)
    else:
        weights = folder / "pytorch_model.bin"
        source = _read_pickle(weights)
    tensors = _rename_hugging_face(source, len(config.decoder.layers), config, weights)
    network = SynSeg.from_config(config)
    fill(network, tensors, included=True, where=weights)
    return network.eval(), fingerprint(weights, config)


def from_original(path: Path) -> tuple[SynSeg, str]:
    """Import a decoder of the original repository (`rd64-uni.pth`); its encoder is OpenAI's ViT-B/16.

    Args:
        path: the `.pth` file.

    Returns:
        The network in eval mode, and its fingerprint.

    Raises:
        ModelError: for weights that are damaged or of another kind, and where the encoder cannot be had.
    """
    network_config, tensors = read_original(path)
    network = SynSeg.from_config(network_config)
    fill(network, tensors, included=False, where=path)
    return network.eval(), fingerprint(path, network_config)


def read_original(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read an original CLIPSeg `.pth` file.

    Args:
        path: the file.

    Returns:
        The config, and the decoder's tensors under our names.

    Raises:
        ModelError: for weights that are damaged or of another kind.
    """
    source = _read_pickle(path)
    renamed: dict[str, Tensor] = {}
    unknown = []
    layers = {"linear1": "up", "linear2": "down", "norm1": "norm1", "norm2": "norm2"}
    for key, tensor in source.items():
        part, _, rest = key.partition(".")
        if part in ("film_mul", "film_add") and rest in ("weight", "bias"):
            renamed[f"decoder.film.{'scale' if part == 'film_mul' else 'shift'}.{rest}"] = tensor
        elif part == "reduces":
            renamed[f"decoder.{key}"] = tensor
        elif part == "trans_conv":
            renamed[f"decoder.head.{rest}"] = tensor
        elif part == "blocks":
            index, _, inner = rest.partition(".")
            module, _, kind = inner.rpartition(".")
            if inner.startswith("self_attn.in_proj_"):
                renamed[f"decoder.blocks.{index}.qkv.{kind.removeprefix('in_proj_')}"] = tensor
            elif module == "self_attn.out_proj":
                renamed[f"decoder.blocks.{index}.out.{kind}"] = tensor
            elif module in layers:
                renamed[f"decoder.blocks.{index}.{layers[module]}.{kind}"] = tensor
            else:
                unknown.append(key)
        elif key not in ("reduce.weight", "reduce.bias"):  # they are in the files, but no forward pass uses them
            unknown.append(key)
    _refuse(unknown, [], path)
    head = "refined" if "decoder.head.0.weight" in renamed else "plain"
    try:
        width, ffn = renamed["decoder.film.scale.weight"].shape[0], renamed["decoder.blocks.0.up.weight"].shape[0]
    except KeyError as error:
        raise ModelError(f"{path} is not a CLIPSeg decoder: the key {error} is missing") from None
    config = ModelConfig(
        name=path.stem,
        encoder=EncoderConfig("ViT-B-16-quickgelu", pretrained="openai"),
        decoder=DecoderConfig(width=width, ffn=ffn, head=head),
        image=ImageConfig(size=352),
        templates=PHRASE,
    )
    return config, renamed


def _read_pickle(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ModelError(f"no weights in {path.parent}: expected model.safetensors or pytorch_model.bin")
    try:
        source = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is damaged or holds more than tensors ({reason})") from None
    if not isinstance(source, dict) or not all(isinstance(tensor, Tensor) for tensor in source.values()):
        raise ModelError(f"{path} does not hold a dictionary of tensors")
    return source


def _refuse(unknown: Iterable[str], missing: Iterable[str], where: object) -> None:
    unknown, missing = sorted(unknown), sorted(missing)
    if unknown or missing:
        parts = [f"unknown keys {unknown}"] * bool(unknown) + [f"missing keys {missing}"] * bool(missing)
        raise ModelError(f"{where} does not hold CLIPSeg's weights: {' and '.join(parts)}")


# transformers leaves values out of config.json that equal these (CLIPSegConfig's own defaults).
_DEFAULTS: dict[str, Any] = {
    "projection_dim": 512, "extract_layers": [3, 6, 9], "reduce_dim": 64, "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 2048, "conditional_layer": 0,
    "use_complex_transposed_convolution": False,
}  # fmt: skip
_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
}  # fmt: skip
_VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
}  # fmt: skip


def _hugging_face_config(folder: Path, name: str) -> ModelConfig:
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    top = _DEFAULTS | values
    text = _TEXT_DEFAULTS | (values.get("text_config") or {})
    vision = _VISION_DEFAULTS | (values.get("vision_config") or {})
    acts = {text["hidden_act"], vision["hidden_act"]}
    if acts not in ({"quick_gelu"}, {"gelu"}):
        raise ModelError(f"{folder}: hidden_act {sorted(acts)}: both towers must use quick_gelu, or both gelu")
    # decoder_hidden_act is ignored: transformers' decoder always uses ReLU
    clip = {
        "embed_dim": top["projection_dim"],
        "quick_gelu": acts == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "width": vision["hidden_size"],
            "layers": vision["num_hidden_layers"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }
    return ModelConfig(
        name=name,
        encoder=EncoderConfig(clip, included=True),
        decoder=DecoderConfig(
            layers=tuple(top["extract_layers"]),
            width=top["reduce_dim"],
            heads=top["decoder_num_attention_heads"],
            ffn=top["decoder_intermediate_size"],
            head="refined" if top["use_complex_transposed_convolution"] else "plain",
            conditional_layer=top["conditional_layer"],
        ),
        image=_hugging_face_image(folder),
        templates=PHRASE,
        context_length=text["max_position_embeddings"],
    )


def _hugging_face_image(folder: Path) -> ImageConfig:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return ImageConfig(size=352)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        size = values.get("size", 352)
        side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
        image = ImageConfig(size=int(side))
        if "image_mean" in values:
            image = ImageConfig(int(side), "square", tuple(values["image_mean"]), tuple(values["image_std"]))
        return image
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None


_BLOCK = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
_DECODER_BLOCK = {
    "layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "up", "mlp.fc2": "down", "self_attn.out_proj": "out",
}  # fmt: skip
_TRANSPOSED = {"clip.text_projection.weight": "text_projection", "clip.visual_projection.weight": "visual.proj"}
_UNUSED = ("clip.text_model.embeddings.position_ids", "clip.vision_model.embeddings.position_ids")  # old buffers


def _rename_hugging_face(source: dict[str, Tensor], depth: int, config: ModelConfig, where: Path) -> dict[str, Tensor]:
    source = {key: tensor for key, tensor in source.items() if key not in _UNUSED}
    target: dict[str, Tensor] = {}
    missing: list[str] = []

    def move(old: str, new: str, transpose: bool = False) -> None:
        tensor = source.pop(old, None)
        if tensor is None:
            missing.append(old)
        else:
            target[new] = tensor.T.contiguous() if transpose else tensor

    def move_block(old: str, new: str, names: dict[str, str], qkv: tuple[str, str]) -> None:
        for kind in ("weight", "bias"):
            for a, b in names.items():
                move(f"{old}.{a}.{kind}", f"{new}.{b}.{kind}")
            parts = [f"{old}.self_attn.{x}_proj.{kind}" for x in "qkv"]
            missing.extend(part for part in parts if part not in source)
            found = [source.pop(part) for part in parts if part in source]
            if len(found) == 3:
                target[f"{new}.{qkv[0]}{qkv[1]}{kind}"] = torch.cat(found)

    clip = "encoder.clip."
    cfg = config.encoder.model
    move("clip.logit_scale", f"{clip}logit_scale")
    for old, new in _TRANSPOSED.items():
        move(old, clip + new, transpose=True)
    text, vision = "clip.text_model.", "clip.vision_model."
    move(f"{text}embeddings.token_embedding.weight", f"{clip}token_embedding.weight")
    move(f"{text}embeddings.position_embedding.weight", f"{clip}positional_embedding")
    move(f"{vision}embeddings.class_embedding", f"{clip}visual.class_embedding")
    move(f"{vision}embeddings.patch_embedding.weight", f"{clip}visual.conv1.weight")
    move(f"{vision}embeddings.position_embedding.weight", f"{clip}visual.positional_embedding")
    for kind in ("weight", "bias"):
        move(f"{text}final_layer_norm.{kind}", f"{clip}ln_final.{kind}")
        move(f"{vision}pre_layrnorm.{kind}", f"{clip}visual.ln_pre.{kind}")  # transformers' own spelling
        move(f"{vision}post_layernorm.{kind}", f"{clip}visual.ln_post.{kind}")
        move(f"decoder.film_mul.{kind}", f"decoder.film.scale.{kind}")
        move(f"decoder.film_add.{kind}", f"decoder.film.shift.{kind}")
        for index in range(depth):
            move(f"decoder.reduces.{index}.{kind}", f"decoder.reduces.{index}.{kind}")
        for part in ("0.", "2.", "4.") if config.decoder.head == "refined" else ("",):
            move(f"decoder.transposed_convolution.{part}{kind}", f"decoder.head.{part}{kind}")
    for tower, new, count in (
        (text, f"{clip}transformer", cfg["text_cfg"]["layers"]),
        (vision, f"{clip}visual.transformer", cfg["vision_cfg"]["layers"]),
    ):
        for index in range(count):
            old = f"{tower}encoder.layers.{index}"
            move_block(old, f"{new}.resblocks.{index}", _BLOCK, ("attn.in_proj", "_"))
    for index in range(depth):
        move_block(f"decoder.layers.{index}", f"decoder.blocks.{index}", _DECODER_BLOCK, ("qkv", "."))
    _refuse(source, missing, where)
    return target
