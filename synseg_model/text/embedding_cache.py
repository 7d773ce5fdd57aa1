"""Text embeddings, kept in memory and on disk: the same labels come back each time a robot starts."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synseg_model.engine import Engine
from synseg_model.files import default_folder, write_whole
from synseg_model.text.embedder import REMEMBERED, PromptEmbedder

__all__ = ["TextCache"]

logger = logging.getLogger(__name__)

LARGEST_FILE = 2**20  # bytes; an embedding takes a few thousand
LARGEST_TABLE = 2**26  # bytes; 4096 embeddings of 1024 values take 16 MB


class TextCache(PromptEmbedder):
    """Embed labels with an engine's text tower, each label only once.

    An embedding is known by the engine's fingerprint, the prompt templates, the normalisation and the label. On disk it
    is one .npy file in folder/text. A damaged file is computed again and replaced. Where files cannot be written, one
    warning says so and memory has to do. Any number of threads and processes may share a folder: files appear whole or
    not at all.

    Args:
        engine: the engine that embeds.
        folder: the folder of caches; None for the user's cache folder.
    """

    def __init__(self, engine: Engine, folder: str | Path | None = None) -> None:
        config = engine.config
        super().__init__(
            lambda prompts: engine.encode_text(prompts), config.templates, config.normalize_text, REMEMBERED
        )
        self._engine = engine
        base = Path(folder) if folder else default_folder()
        self._folder = base / "text" if base else None
        self._writable = self._folder is not None

    def unknown(self, labels: Sequence[str]) -> list[str]:
        """Return the labels that the engine has to embed; the others are in the cache.

        Args:
            labels: texts.
        """
        return [label for label in labels if self._find(self._key(label)) is None]

    def load_table(self, labels: Sequence[str]) -> np.ndarray | None:
        """Read what `store_table` kept for the same labels.

        Args:
            labels: N texts.

        Returns:
            (N,D) float32; None where there is no such file, or a damaged one.
        """
        table = self._load(self._key(list(labels)), 2, LARGEST_TABLE)
        return table if table is not None and len(table) == len(labels) else None

    def store_table(self, labels: Sequence[str], table: np.ndarray) -> None:
        """Keep an array that belongs to a list of labels in one file, which is faster than many small ones.

        Args:
            labels: N texts.
            table: (N,D).
        """
        self._store(self._key(list(labels)), np.ascontiguousarray(table, np.float32))

    def _key(self, label: str | list[str]) -> str:
        identity = [self._engine.fingerprint, list(self._templates), self._normalize, label]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def _find(self, key: str) -> np.ndarray | None:
        embedding = super()._find(key)
        if embedding is None:
            embedding = self._load(key)
            if embedding is not None:
                super()._keep(key, embedding)
        return embedding

    def _keep(self, key: str, embedding: np.ndarray) -> None:
        super()._keep(key, embedding)
        self._store(key, embedding)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npy"

    def _load(self, key: str, ndim: int = 1, largest: int = LARGEST_FILE) -> np.ndarray | None:
        """Read one embedding, or a table of them; None for a missing or damaged file."""
        if self._folder is None:
            return None
        try:
            with open(self._path(key), "rb") as file:
                data = file.read(largest + 1)
        except OSError:
            return None
        try:
            if len(data) > largest:
                raise ValueError(f"larger than {largest} bytes")
            embedding = np.load(io.BytesIO(data), allow_pickle=False)
            if not isinstance(embedding, np.ndarray) or embedding.dtype != np.float32 or embedding.ndim != ndim:
                raise ValueError("not an embedding")
            if not np.isfinite(embedding).all() or not embedding.any():
                raise ValueError("not finite or all zero")
        except Exception as error:  # a damaged file makes numpy raise many kinds, MemoryError included
            logger.info("text cache: %s is damaged (%s) and is computed again", self._path(key), error)
            return None
        return embedding

    def _store(self, key: str, embedding: np.ndarray) -> None:
        if not self._writable:
            return
        try:
            write_whole(self._path(key), lambda file: np.save(file, embedding, allow_pickle=False), durable=False)
        except OSError as error:
            self._writable = False
            logger.warning(
                "text cache: cannot write to %s (%s): embeddings are kept in memory only",
                self._folder,
                error.strerror or error,
            )
