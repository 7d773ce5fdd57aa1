"""Labels to text embeddings, each label only once: the mean over a model's prompt templates. Needs no torch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from synseg_model.vocabulary import prompt

__all__ = ["PROMPTS_AT_ONCE", "REMEMBERED", "PromptEmbedder", "unit_length"]

REMEMBERED = 4096  # embeddings in memory: 8 MB at 512 values
PROMPTS_AT_ONCE = 256


class PromptEmbedder:
    """Embed labels with a text tower, and remember the embeddings.

    Any number of threads may use it.

    Example:
        >>> import numpy as np
        >>> from synseg_model.text.embedder import PromptEmbedder
        >>> def encode_text(prompts):
        ...     return np.float32([[len(prompt), 1] for prompt in prompts])
        >>> embedder = PromptEmbedder(encode_text, ("a photo of a {}.",), normalize=False)
        >>> embedder.embed(["car", "tree"]).tolist()
        [[17.0, 1.0], [18.0, 1.0]]
    """

    def __init__(
        self,
        encode_text: Callable[[Sequence[str]], np.ndarray],
        templates: Sequence[str],
        normalize: bool,
        remembered: int = REMEMBERED,
        prompts_at_once: int = PROMPTS_AT_ONCE,
    ) -> None:
        """Take a text tower and how it is asked.

        Args:
            encode_text: embeds N prompts, (N,D).
            templates: prompts, each with one "{}" for the label.
            normalize: average unit vectors, and scale the mean to length 1 again.
            remembered: largest number of embeddings in memory.
            prompts_at_once: largest number of prompts in one call. Other prompts of a call may change the last digits;
                with the number of templates every label is embedded alone.
        """
        self._encode_text = encode_text
        self._templates, self._normalize = tuple(templates), normalize
        self._remembered, self._prompts_at_once = remembered, prompts_at_once
        self._memory: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._encoding = threading.Lock()

    def embed(self, labels: Sequence[str]) -> np.ndarray:
        """Embed labels as the model does; labels that are not known yet are computed and kept.

        Args:
            labels: K texts.

        Returns:
            (K,D) float32.
        """
        keys = [self._key(label) for label in labels]
        found = {key: self._find(key) for key in keys}
        shapes = {embedding.shape for embedding in found.values() if embedding is not None}
        if any(e is None for e in found.values()) or len(shapes) > 1:
            # Where two threads miss the same labels, the second one finds them here.
            with self._encoding:
                found = {key: self._find(key) for key in keys} if len(shapes) < 2 else dict.fromkeys(keys)
                missing = {k: label for k, label in zip(keys, labels, strict=True) if found[k] is None}
                if missing:
                    fresh = self.encode(list(missing.values()))
                    if any(e is not None and e.shape != fresh.shape[1:] for e in found.values()):
                        missing = dict(zip(keys, labels, strict=True))
                        fresh = self.encode(list(missing.values()))
                    for key, embedding in zip(missing, fresh, strict=True):
                        found[key] = embedding
                        self._keep(key, embedding)
        return np.stack([found[key] for key in keys])

    def encode(self, labels: Sequence[str]) -> np.ndarray:
        """Embed labels without keeping them: the mean over the templates.

        With normalisation, the mean is taken of unit vectors and scaled to length 1 again.

        Args:
            labels: K texts.

        Returns:
            (K,D) float32.
        """
        prompts = [prompt(template, label) for label in labels for template in self._templates]
        parts = [
            np.asarray(self._encode_text(prompts[start : start + self._prompts_at_once]), np.float32)
            for start in range(0, len(prompts), self._prompts_at_once)
        ]
        embeddings = np.concatenate(parts).reshape(len(labels), len(self._templates), -1)  # (K, templates, D)
        if self._normalize:
            embeddings = unit_length(embeddings)
        mean = embeddings.mean(axis=1)
        return unit_length(mean) if self._normalize else mean

    def _key(self, label: str) -> Hashable:
        return label

    def _find(self, key: Hashable) -> np.ndarray | None:
        """Return a known embedding (D,)."""
        with self._lock:
            embedding = self._memory.get(key)
            if embedding is not None:
                self._memory.move_to_end(key)
            return embedding

    def _keep(self, key: Hashable, embedding: np.ndarray) -> None:
        """Remember an embedding (D,), and forget the least recently used one where there are too many."""
        with self._lock:
            self._memory[key] = embedding
            self._memory.move_to_end(key)
            while len(self._memory) > self._remembered:
                self._memory.popitem(last=False)


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1; vectors of length 0 stay.

    Args:
        vectors: (...,D).
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
