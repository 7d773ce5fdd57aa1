"""Safetensors files: opened with one clear error where they are missing or damaged. Needs no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from synseg_model.config import ModelError

if TYPE_CHECKING:
    from safetensors import safe_open

__all__ = ["TensorInfo", "open_tensors", "read_infos"]


class TensorInfo(NamedTuple):
    """Describe a tensor of a file.

    Attributes:
        dtype: its type in the format's own words, such as "F16".
        shape: its shape.
    """

    dtype: str
    shape: tuple[int, ...]


@contextlib.contextmanager
def open_tensors(path: Path, framework: str) -> Iterator[safe_open]:
    """Open a safetensors file, whose header is checked against the file's size.

    Args:
        path: the file.
        framework: what tensors are read as: "pt" for torch, or "numpy", which imports no torch.

    Raises:
        ModelError: where the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open  # imported here: exported models do not need it

    try:
        with safe_open(path, framework) as file:
            yield file
    except FileNotFoundError:
        raise ModelError(f"no {path.name} in {path.parent}: the model folder is incomplete") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy or download it again") from None


def read_infos(path: Path) -> dict[str, TensorInfo]:
    """Read the type and shape of each tensor, without its values.

    Raises:
        ModelError: where the file is missing or damaged.
    """
    with open_tensors(path, "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return {name: TensorInfo(each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
