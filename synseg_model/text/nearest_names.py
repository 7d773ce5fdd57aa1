"""The name that a model knows and that is nearest to a label it never met."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synseg_model.text.embedding_cache import TextCache

__all__ = ["NearestNames"]

MOST_COMPARED = 4096  # a label is compared with the first names only


class NearestNames:
    """Find the known name whose text embedding is nearest to that of a label.

    All names are embedded once, and their table is kept in the text cache. `embed` does that in pieces, for callers
    with little time at once. `find` does the rest.

    Args:
        names: the names that the model knows; the first 4,096 count.
        cache: embeds the names and keeps the table.
    """

    def __init__(self, names: Sequence[str], cache: TextCache) -> None:
        self._names = list(names)[:MOST_COMPARED]
        self._cache = cache
        self._parts: list[np.ndarray] = []
        self._done = 0
        self._table: np.ndarray | None = None  # (N,D), of length 1 each

    @property
    def missing(self) -> int:
        """Number of names that are not embedded yet; the first use looks into the cache."""
        if self._names and self._table is None and not self._done:
            self._table = self._cache.load_table(self._names)
        return 0 if self._table is not None else len(self._names) - self._done

    def embed(self, count: int) -> None:
        """Embed the next `count` names."""
        if not self.missing:
            return
        part = self._names[self._done : self._done + max(1, count)]
        embedded = self._cache.encode(part)
        self._parts.append(embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12))
        self._done += len(part)
        if self._done == len(self._names):
            self._table, self._parts = np.concatenate(self._parts), []
            self._cache.store_table(self._names, self._table)

    def find(self, embeddings: np.ndarray) -> list[tuple[str, float]]:
        """Find the nearest name of each text embedding.

        Args:
            embeddings: (K,D) float32.

        Returns:
            For each embedding the name and the cosine in [-1, 1]; an empty list where the model knows no names.
        """
        while self.missing:
            self.embed(self.missing)
        if self._table is None:
            return []
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        cosines = unit @ self._table.T  # (K, N)
        nearest = cosines.argmax(axis=1)
        return [(self._names[n], float(row[n])) for n, row in zip(nearest, cosines, strict=True)]
