"""Hints what to install where a library is missing, right for a clone of the project and for a copy.

All hints are made here. The project is in no registry, so no hint may name it as a package there.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from synseg_model.config import DEFAULT_MODEL, PRESETS

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class _Extra:
    """Describe an extra of pyproject.toml: what needs it, its packages, and the modules that are missing without it."""

    needed_by: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]


_ENGINES = ("openvino", "onnxruntime", "torch")
_TORCH = ("torch>=2.4,!=2.13.0", "torchvision>=0.19", "open_clip_torch>=3.0", "timm>=1.0.10", "huggingface_hub>=0.23")
_ONNX = ("onnxruntime>=1.18", "tokenizers>=0.19", "ftfy>=6.1")

# A copy without pyproject.toml cannot look the packages up; a test compares them with it.
EXTRAS = {
    "": _Extra(
        "synseg needs",
        (
            "numpy>=1.24",
            "opencv-python-headless>=4.8",
            "pillow>=10.2",
            "safetensors>=0.4",
            "scipy>=1.11",
            "simplejpeg>=1.7.4",
            "tqdm>=4.66",
        ),
        ("numpy", "cv2", "PIL", "safetensors", "scipy", "simplejpeg", "tqdm"),
    ),
    "torch": _Extra(
        "the torch engine needs",
        _TORCH,
        ("torch", "torchvision", "open_clip", "timm", "huggingface_hub"),
    ),
    "onnx": _Extra("the onnxruntime engine needs", _ONNX, ("onnxruntime", "tokenizers", "ftfy")),
    "openvino": _Extra(
        "the openvino engine needs", ("openvino>=2025.0", "tokenizers>=0.19", "ftfy>=6.1"), ("openvino",)
    ),
    "int8": _Extra("int8 needs", ("openvino>=2025.0", "tokenizers>=0.19", "ftfy>=6.1", "nncf>=2.15"), ("nncf",)),
    "tensorrt": _Extra(
        "the tensorrt engine needs",
        (*_ONNX, "filelock>=3.12", "pycuda>=2024.1", "tensorrt>=10.3,<12"),
        ("tensorrt", "tensorrt_rtx", "filelock", "pycuda"),
    ),
    "export": _Extra(
        "exporting needs",
        (*_TORCH, *_ONNX, "torch>=2.7", "onnx>=1.17", "onnxscript>=0.5"),
        ("onnx", "onnxscript"),
    ),
    "bag": _Extra("recordings need", ("rosbags>=0.11.9,<0.12",), ("rosbags",)),
    "live": _Extra("`synseg live` needs", ("aiohttp>=3.9",), ("aiohttp",)),
    "rerun": _Extra("the viewer Rerun needs", ("rerun-sdk>=0.39",), ("rerun",)),
    "refine": _Extra("--refine needs", ("scikit-image>=0.22",), ("skimage",)),
    "ray": _Extra("--runner ray needs", ("ray>=2.9",), ("ray",)),
    "train": _Extra(
        "the training package needs",
        (
            *_TORCH,
            "scikit-image>=0.22",
            "braceexpand>=0.1.7",
            "jsonargparse[signatures]>=4.38",
            "lightning-fabric>=2.4",
            "matplotlib>=3.8",
            "pycocotools>=2.0.8",
            "spacy>=3.8,<4",
            "tensorboard>=2.16",
            "thinc>=8.3,<9",
            "tokenizers>=0.19",
            "transformers>=4.40",
            "webdataset>=0.2.86",
        ),
        (
            "braceexpand",
            "jsonargparse",
            "lightning",
            "lightning_fabric",
            "matplotlib",
            "pycocotools",
            "spacy",
            "tensorboard",
            "thinc",
            "transformers",
            "webdataset",
        ),
    ),
}


def missing_module(error: ModuleNotFoundError) -> str:
    """Say which library is missing, what needs it, and which command installs it.

    Args:
        error: the failed import.
    """
    module = (error.name or "").partition(".")[0]
    foreign = foreign_training() if module == "training" else None
    if foreign:
        return (
            f"{error.name} is not in {foreign}: this package training is another project's. Install SynSeg in a "
            "virtual environment of its own, or run its programs in the folder of its sources"
        )
    if module == "training":
        return "the training package is not installed; it comes with the project's sources, and robots do without it"
    extra = next((name for name, extra in EXTRAS.items() if module in extra.modules), None)
    if extra is None:
        return f"{error.name} is not installed" if error.name else str(error)
    if extra == "torch" and not any(map(find_spec, _ENGINES)):
        return (
            f"no engine is installed. For {DEFAULT_MODEL} on a CPU: {install_command('openvino')}; "
            f"for a GPU or for other models: {install_command('torch')}"
        )
    return f"{error.name} is not installed; {EXTRAS[extra].needed_by}: {install_command(extra)}"


def foreign_training() -> str | None:
    """Return the folder of a package `training` that is not SynSeg's; None where there is none."""
    found = PathFinder.find_spec("training")
    folders = list(found.submodule_search_locations or [found.origin]) if found else []
    if not folders or any(Path(folder, "objective", "objective.py").is_file() for folder in folders):
        return None
    return str(folders[0])


def install_command(extra: str = "", root: Path = _ROOT) -> str:
    """Return the command that installs an extra of pyproject.toml: from the clone it runs from, else its packages.

    Args:
        extra: name of the extra; "" for what every engine needs.
        root: the folder that synseg_model lies in.
    """
    if (root / "pyproject.toml").is_file():
        return "pip install " + shlex.quote(f"{root}[{extra}]" if extra else str(root))
    return "pip install " + " ".join(map(shlex.quote, EXTRAS[extra].packages))


def without_network(repository: str = PRESETS["clipseg-rd64-refined"]) -> str:
    """Say what to do where a model cannot be downloaded.

    Args:
        repository: the model's id on the Hugging Face hub.
    """
    return (
        f"Without one, choose the model {DEFAULT_MODEL!r}, which ships with the package; or download {repository} on "
        f"another machine (hf download {repository} --local-dir DIR), copy that folder here and name its path as the "
        "model. "
        "The path of an original CLIPSeg .pth is accepted, too, where open_clip's cache has ViT-B-16-quickgelu/openai"
    )
