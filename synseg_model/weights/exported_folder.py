"""Exported folders, read: which files they hold besides `config.json`, and what `export.json` says about them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from synseg_model.config import ModelError

__all__ = [
    "DECODER",
    "EXPORT_FILE",
    "FILES",
    "GPU_GRAPHS",
    "IMAGE_ENCODER",
    "LABEL_MAP",
    "MASKS",
    "NAMES_FILE",
    "POSITIONS",
    "TEXT_ENCODER",
    "TOKENIZER",
    "Export",
    "is_exported",
    "seal",
]

FORMAT = 2
EXPORT_FILE = "export.json"
IMAGE_ENCODER, DECODER, TEXT_ENCODER = "image_encoder.onnx", "decoder.onnx", "text_encoder.onnx"
LABEL_MAP, MASKS = "label_map.onnx", "masks.onnx"
GPU_GRAPHS = (IMAGE_ENCODER, DECODER, LABEL_MAP, MASKS)  # what runs for every frame
TOKENIZER, POSITIONS = "tokenizer.json", "positions.npy"
NAMES_FILE = "names.json"  # how the model met each name in its training; optional
FILES = (*GPU_GRAPHS, TEXT_ENCODER, TOKENIZER, POSITIONS)
INT8_ENCODER, INT8_WEIGHTS = "image_encoder.int8.xml", "image_encoder.int8.bin"  # in OpenVINO's own format
OPTIONAL = (NAMES_FILE, INT8_ENCODER, INT8_WEIGHTS)


@dataclass(frozen=True)
class Export:
    """Describe an exported folder.

    Attributes:
        precision: "fp32" or "fp16", of image encoder and decoder; the text encoder is always fp32.
        fingerprint: the fingerprint of the exported model. Text embeddings are equal, so both share their cache.
        patch: side of an image token in pixels.
        files: size in bytes and SHA-256 of each file, by name.
        parity: how far the graphs were from torch when they were written.
        format: version of this description.
    """

    precision: str
    fingerprint: str
    patch: int
    files: dict[str, list]
    parity: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Export:
        """Read the `export.json` of a folder, and look for the files that it lists.

        Args:
            folder: the exported folder.

        Raises:
            ModelError: where a file is missing, cut, or of another format.
        """
        path = Path(folder) / EXPORT_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(
                f"{folder} is not an exported folder (it has no {EXPORT_FILE}): write one with `synseg export`"
            ) from None
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read {path}: {error}") from None
        if isinstance(values, dict) and values.get("format", FORMAT) != FORMAT:
            raise ModelError(
                f"{path} has format {values['format']!r}: this version of synseg reads format {FORMAT}; "
                "export the model again"
            )
        try:
            export = cls(**values)
            listed = [*FILES, *(name for name in OPTIONAL if name in export.files)]
            sizes = {name: int(export.files[name][0]) for name in listed}
            {name: float(value) for name, value in export.parity.items()}
            if export.patch < 1 or not bytes.fromhex(export.fingerprint):
                raise ValueError
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            raise ModelError(f"{path} is damaged: export the model again") from None
        for name, size in sizes.items():
            file = Path(folder) / name
            if not file.is_file():
                raise ModelError(f"no {name} in {folder}: the exported folder is incomplete, export the model again")
            if file.stat().st_size != size:
                raise ModelError(f"{file} has {file.stat().st_size} bytes, expected {size}: copy it or export it again")
        return export

    def check_file(self, folder: Path, name: str) -> Path:
        """Check that a file is, bit for bit, the one that was exported.

        Args:
            folder: the exported folder.
            name: the file's name.

        Returns:
            The path of the file.

        Raises:
            ModelError: where it is missing or another file.
        """
        path = Path(folder) / name
        try:
            whole = _digest(path) == self.files[name][1]
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
        if not whole:
            raise ModelError(f"{path} is damaged or of another export: copy it or export it again")
        return path

    def to_json(self) -> str:
        """Write the description as JSON, as `read` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def is_exported(folder: str | Path) -> bool:
    """Tell whether a path is a folder that `synseg export` wrote."""
    return (Path(folder).expanduser() / EXPORT_FILE).is_file()


def seal(folder: Path) -> dict[str, list]:
    """Measure the files of a folder that has just been written.

    Args:
        folder: the exported folder.

    Returns:
        Size in bytes and SHA-256 of each file, by name.
    """
    there = [name for name in OPTIONAL if (Path(folder) / name).is_file()]
    paths = {name: Path(folder) / name for name in (*FILES, *there)}
    return {name: [path.stat().st_size, _digest(path)] for name, path in paths.items()}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
