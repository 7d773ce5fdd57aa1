"""`synseg info`: what a model folder says about itself, read without torch."""

from __future__ import annotations

import argparse
import json
import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synseg_model.config import CONFIG_FILE, WEIGHTS_FILE, DecoderConfig, EncoderConfig, ModelConfig, ModelError
from synseg_model.weights.exported_folder import NAMES_FILE, Export, is_exported
from synseg_model.weights.pedigree import Pedigree

SHIPPED = Path(__file__).parents[1] / "models"
TWIN_FOLDER = "exported"  # in a model folder: the same model as ONNX graphs
DEFAULT_MODEL = "synseg-everyday"  # the shipped model that everything uses unless told otherwise
PRESETS = {"clipseg-rd64-refined": "CIDAS/clipseg-rd64-refined"}  # names for ids of the Hugging Face hub
PHOTOGRAPHS, GENERATED_SCENES = "photographs", "generated scenes"  # domains: what cameras see, and the player's own
_HUB_ID = re.compile(r"[^./~\\\0][^/\\\0]*/[^./\\\0][^/\\\0]*")  # owner/repository
_LARGEST_HEADER = 100 * 2**20  # bytes; the format's own limit


def run(arguments: argparse.Namespace) -> int:
    """Print a model's description, or how it met the labels that are given."""
    folder = find_folder(arguments.model)
    if arguments.labels is None:
        print("\n".join(describe(folder)))
    else:
        print("\n".join(describe_labels(folder, arguments.labels.split(","))))
    return 0


def check_model(model: str | Path) -> None:
    """Raise ModelError where a model is certainly missing or damaged, in milliseconds and without torch.

    What passes may still fail to load: CLIPSeg's own files and names of the hub are left to the loading, and so is
    whether the weights fit their config. Of exported folders, the sizes of the files are checked.
    """
    name = str(model)
    shipped = shipped_models()
    path = model_folder(name)
    if name and path.is_dir():
        if not is_clipseg_folder(path):
            ModelConfig.read(path)
            if is_exported(path):
                Export.read(path)
            else:
                read_header(path / WEIGHTS_FILE)
            Pedigree.read(path)
    elif path.is_file():
        if path.suffix != ".pth":
            raise ModelError(f"model {name!r} is a file: expected a model folder or an original CLIPSeg .pth")
    elif name not in PRESETS and not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"no model {name!r}: expected one of {[*shipped, *PRESETS]}, a model folder, "
            "a CLIPSeg folder or id, or a CLIPSeg .pth file"
        )
    elif name not in PRESETS and Path(name).parent.is_dir():  # the hub would only say that it knows no such model
        raise ModelError(f"no model folder {name!r}: {Path(name).parent} is a folder here and holds no such one")


def find_folder(model: str) -> Path:
    """Find a model folder by a shipped model's name or by its path; raise ModelError where there is none."""
    shipped = shipped_models()
    if model in shipped:
        return SHIPPED / model
    if (Path(model) / CONFIG_FILE).is_file():
        return Path(model)
    raise ModelError(f"no model folder {model!r}: expected a shipped model {shipped} or a folder with {CONFIG_FILE}")


def without_network(repository: str = PRESETS["clipseg-rd64-refined"]) -> str:
    """Say what to do where a model cannot be downloaded."""
    return (
        f"Without one, choose the model {DEFAULT_MODEL!r}, which ships with the package; or download {repository} on "
        f"another machine (hf download {repository} --local-dir DIR), copy that folder here and name its path as the "
        "model. "
        "The path of an original CLIPSeg .pth is accepted, too, where open_clip's cache has ViT-B-16-quickgelu/openai"
    )


def find_twin(model: str | Path) -> Path | None:
    """Find the export that a model folder carries in `exported/`, which runs without torch; None where it has none."""
    path = SHIPPED / str(model) if str(model) in shipped_models() else Path(model).expanduser()
    twin = path / TWIN_FOLDER
    return twin if is_exported(twin) else None


def read_pedigree(model: str | Path) -> Pedigree:
    """Read the pedigree of a model by any of its names; an empty one where it has none. Raise ModelError if damaged."""
    path = model_folder(model)
    return Pedigree.read(path) if path.is_dir() and not is_clipseg_folder(path) else Pedigree()


def domain_warning(config: ModelConfig, expected: str = PHOTOGRAPHS) -> str:
    """Say that a model was made for other images than it gets; "" where it was not, or does not say what it is for.

    expected: what the images are, as a config's `domain` has it; "": do not warn.
    """
    if not config.domain or not expected or config.domain.casefold() == expected.casefold():
        return ""
    return (
        f"the model {config.name!r} is for {config.domain}; its masks mean little on other images: "
        f"for photographs choose the model {DEFAULT_MODEL!r}"
    )


def model_folder(model: str | Path) -> Path:
    """Return where a model lies if it is a shipped one or a folder: of other names, a path that is no folder."""
    return SHIPPED / str(model) if str(model) in shipped_models() else Path(model).expanduser()


def shipped_models() -> list[str]:
    """Name the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def is_clipseg_folder(folder: Path) -> bool:
    """Tell whether a folder holds CLIPSeg as the Hugging Face hub has it, with a config of its own kind."""
    try:
        return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("model_type") == "clipseg"
    except (OSError, ValueError, AttributeError):
        return False


def describe(folder: Path) -> list[str]:
    """Describe a model folder or an exported one in lines; raise ModelError where it is incomplete or damaged."""
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
    return _aligned(rows)


def describe_labels(folder: Path, labels: Sequence[str]) -> list[str]:
    """Say in a line for each label how the model met it in training; the model is loaded only for labels it never met.

    Raise ModelError where the folder is damaged or has no names, ValueError for labels that no vocabulary has.
    """
    pedigree = Pedigree.read(folder)
    if not pedigree:
        raise ModelError(f"{folder} does not say which names it was taught: it has no {NAMES_FILE}")
    labels = [" ".join(label.split()) for label in labels if label.strip()]
    if not labels:
        raise ValueError("no labels: expected at least one, with commas between")
    if all(map(pedigree.of, labels)):
        return _aligned([(label, str(pedigree.of(label))) for label in labels])
    from synseg_model.segmenter import Segmenter

    segmenter = Segmenter.load(folder, device="cpu")  # on a GPU engines might be built first
    vocabulary = segmenter.prepare_vocabulary(labels)
    return _aligned(list(zip(vocabulary.labels, segmenter.pedigree_of(vocabulary), strict=True)))


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
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


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Read the names, types and shapes of a safetensors file's tensors; raise ModelError if it is damaged.

    Source: the format's description, https://huggingface.co/docs/safetensors.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            tensors = json.loads(file.read(length))
        tensors.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        for tensor in tensors.values():
            math.prod(tensor["shape"])
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"{path.stat().st_size} bytes, expected {8 + length + end}")
    except FileNotFoundError:
        raise ModelError(f"no {path.name} in {path.parent}: the model folder is incomplete") from None
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy or download it again") from None
    return tensors


def _weights(path: Path) -> list[tuple[str, str]]:
    tensors = read_header(path)
    types = sorted({str(tensor.get("dtype")) for tensor in tensors.values()})
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        part = name.split(".", 1)[0]
        sizes[part] = sizes.get(part, 0) + math.prod(tensor["shape"])
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
