"""The description of a model folder that `synseg info` prints, read without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synseg_model.config import WEIGHTS_FILE, DecoderConfig, EncoderConfig, ModelConfig
from synseg_model.weights.exported_folder import Export, is_exported
from synseg_model.weights.pedigree import Pedigree
from synseg_model.weights.safetensors_file import read_infos


def describe(folder: Path) -> list[str]:
    """Describe a model folder or an exported folder.

    Args:
        folder: the folder.

    Returns:
        One line per fact.

    Raises:
        ModelError: for a folder that is incomplete or damaged.
    """
    config, pedigree = ModelConfig.read(folder), Pedigree.read(folder)
    encoder, decoder, image = config.encoder, config.decoder, config.image
    architecture = encoder.model if isinstance(encoder.model, str) else "open_clip config in the folder"
    if encoder.backbone:
        architecture = f"{encoder.backbone} of timm beside a text tower"
    weights = "carried in the folder" if encoder.included else f"public, {encoder.pretrained}"
    rows = [
        ("model", config.name),
        ("folder", str(folder)),
        *([("for", config.domain)] if config.domain else []),
        ("encoder", f"{architecture} ({weights})"),
        *_towers(encoder.model),
        *_decoder(encoder, decoder),
        ("image", f"{image.size} px, {'square' if image.resize == 'square' else 'aspect ratio kept'}"),
        ("prompts", " | ".join(config.templates)),
        (
            "text",
            f"{config.context_length} tokens, {'normalised' if config.normalize_text else 'not normalised'}",
        ),
        ("threshold", f"{config.threshold:g}"),
        *(_graphs(folder) if is_exported(folder) else _weights(folder / WEIGHTS_FILE)),
        *([("names", pedigree.summary())] if pedigree else []),
        *_tree("training", config.training),
        *_tree("results", config.results),
    ]
    return aligned(rows)


def aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Format names and values as lines, with the values in one column.

    Args:
        rows: names and values.
    """
    width = max(len(name) for name, _ in rows) + 2
    return [f"{name:<{width}}{value}" for name, value in rows]


def _towers(model: str | dict) -> list[tuple[str, str]]:
    if isinstance(model, str):
        return []
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    parts = [
        f"image tower {vision.get('layers')} x {vision.get('width')}, patch {vision.get('patch_size')}",
        f"text tower {text.get('layers')} x {text.get('width')}, {text.get('vocab_size')} tokens",
    ]
    return [("", part) for part in (parts if vision else parts[1:])]


def _decoder(encoder: EncoderConfig, decoder: DecoderConfig) -> list[tuple[str, str]]:
    if not encoder.backbone:
        return [
            ("decoder", f"{decoder.head} head, width {decoder.width}, {decoder.heads} heads, FFN {decoder.ffn}"),
            ("layers", f"{', '.join(map(str, decoder.layers))}; FiLM before decoder block {decoder.conditional_layer}"),
        ]
    extras = [name for name in ("dense", "presence") if getattr(decoder, name)]
    return [
        (
            "decoder",
            f"width {decoder.width}, skips of {' and '.join(map(str, decoder.skips))} channels at strides 8 and 4"
            + (f", with {' and '.join(extras)}" if extras else ""),
        ),
        (
            "",
            f"before FiLM {decoder.conditional_layer} blocks of width {decoder.context_width}, {decoder.heads} heads, "
            f"FFN {decoder.ffn}",
        ),
        ("levels", f"{', '.join(map(str, encoder.levels))} of the backbone, with strides 4, 8, 16 and 32"),
    ]


def _weights(path: Path) -> list[tuple[str, str]]:
    tensors = read_infos(path)
    types = sorted({tensor.dtype for tensor in tensors.values()})
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        part = name.split(".", 1)[0]
        sizes[part] = sizes.get(part, 0) + math.prod(tensor.shape)
    parts = ", ".join(f"{part} {_millions(size)}" for part, size in sizes.items())
    megabytes = path.stat().st_size / 1e6
    return [
        ("parameters", f"{_millions(sum(sizes.values()))} in the folder ({parts})"),
        ("weights", f"{megabytes:.1f} MB, {', '.join(types)}"),
    ]


def _graphs(folder: Path) -> list[tuple[str, str]]:
    export = Export.read(folder)
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, (size, _) in export.files.items() if size >= 1e5)
    return [
        ("exported", f"{export.precision}: {parts}"),
        ("parity", ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in export.parity.items())),
    ]


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 10_000 else str(count)


def _tree(title: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    """Flatten free-form JSON to one row per leaf."""
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _tree(f"{title}.{key}", value)
        else:
            rows.append((f"{title}.{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows
