"""Find a model by its name, and know in milliseconds whether it is there and whole. Needs no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from synseg_model.config import CONFIG_FILE, PRESETS, WEIGHTS_FILE, ModelConfig, ModelError
from synseg_model.weights.exported_folder import Export, is_exported
from synseg_model.weights.pedigree import Pedigree
from synseg_model.weights.safetensors_file import read_infos

SHIPPED = Path(__file__).parents[1] / "models"
TWIN_FOLDER = "exported"  # in a model folder: the same model as ONNX graphs
_HUB_ID = re.compile(r"[^./~\\\0][^/\\\0]*/[^./\\\0][^/\\\0]*")  # owner/repository


def check_model(model: str | Path) -> None:
    """Raise ModelError where a model is certainly missing or damaged, in milliseconds and without torch.

    What passes may still fail to load: CLIPSeg's own files and names of the hub are left to the loading, and so is
    whether the weights fit their config. Of exported folders, the sizes of the files are checked.
    """
    name = str(model)
    shipped = shipped_models()
    path = folder_of(name)
    if name and path.is_dir():
        if not is_clipseg_folder(path):
            ModelConfig.read(path)
            if is_exported(path):
                Export.read(path)
            else:
                read_infos(path / WEIGHTS_FILE)
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


def find_twin(model: str | Path) -> Path | None:
    """Find the export that a model folder carries in `exported/`, which runs without torch; None where it has none."""
    path = SHIPPED / str(model) if str(model) in shipped_models() else Path(model).expanduser()
    twin = path / TWIN_FOLDER
    return twin if is_exported(twin) else None


def read_pedigree(model: str | Path) -> Pedigree:
    """Read the pedigree of a model by any of its names; an empty one where it has none. Raise ModelError if damaged."""
    path = folder_of(model)
    return Pedigree.read(path) if path.is_dir() and not is_clipseg_folder(path) else Pedigree()


def folder_of(model: str | Path) -> Path:
    """Return the folder of a shipped model, and of any other name the path that it is."""
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
