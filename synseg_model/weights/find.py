"""Models by their names: where they lie, and, within milliseconds, whether they are whole. Needs no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from synseg_model.config import CONFIG_FILE, PRESETS, WEIGHTS_FILE, ModelConfig, ModelError
from synseg_model.weights.exported_folder import Export, is_exported
from synseg_model.weights.pedigree import Pedigree
from synseg_model.weights.safetensors_file import read_infos

__all__ = [
    "SHIPPED",
    "check_model",
    "find_folder",
    "find_twin",
    "folder_of",
    "is_clipseg_folder",
    "read_pedigree",
    "shipped_models",
]

SHIPPED = Path(__file__).parents[1] / "models"
TWIN_FOLDER = "exported"  # in a model folder: the same model as ONNX graphs
_HUB_ID = re.compile(r"[^./~\\\0][^/\\\0]*/[^./\\\0][^/\\\0]*")  # owner/repository


def check_model(model: str | Path) -> None:
    """Refuse a model that is certainly missing or damaged, within milliseconds and without torch.

    What passes may still fail to load. Loading alone checks CLIPSeg's own files, names of the hub, and whether the
    weights fit their config. Of exported folders, the sizes of the files are checked.

    Args:
        model: a name as `Segmenter.load` takes it.

    Raises:
        ModelError: for such a model; the message says what is accepted.
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
    elif name not in PRESETS and Path(name).parent.is_dir():  # the hub's own message would not mention the folder
        raise ModelError(f"no model folder {name!r}: the folder {Path(name).parent} does not have it")


def find_folder(model: str) -> Path:
    """Find the folder of a model.

    Args:
        model: a shipped model's name, or a path.

    Raises:
        ModelError: where there is no such folder.
    """
    shipped = shipped_models()
    if model in shipped:
        return SHIPPED / model
    if (Path(model) / CONFIG_FILE).is_file():
        return Path(model)
    raise ModelError(f"no model folder {model!r}: expected a shipped model {shipped} or a folder with {CONFIG_FILE}")


def find_twin(model: str | Path) -> Path | None:
    """Find the export that a model folder carries in `exported/`, which runs without torch.

    Args:
        model: a shipped model's name, or a path.

    Returns:
        The exported folder; None where the model has none.
    """
    path = SHIPPED / str(model) if str(model) in shipped_models() else Path(model).expanduser()
    twin = path / TWIN_FOLDER
    return twin if is_exported(twin) else None


def read_pedigree(model: str | Path) -> Pedigree:
    """Read how a model met names in its training.

    Args:
        model: a name as `Segmenter.load` takes it.

    Returns:
        The pedigree; an empty one where the model has none.

    Raises:
        ModelError: for a damaged file.
    """
    path = folder_of(model)
    return Pedigree.read(path) if path.is_dir() and not is_clipseg_folder(path) else Pedigree()


def folder_of(model: str | Path) -> Path:
    """Return the folder of a shipped model; any other name counts as a path.

    Args:
        model: a shipped model's name, or a path, which need not exist.
    """
    return SHIPPED / str(model) if str(model) in shipped_models() else Path(model).expanduser()


def shipped_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def is_clipseg_folder(folder: Path) -> bool:
    """Tell whether a folder holds CLIPSeg as the Hugging Face hub has it."""
    try:
        return json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("model_type") == "clipseg"
    except (OSError, ValueError, AttributeError):
        return False
