"""Labels to text embeddings from an exported folder: its tokenizer, and its text tower in whatever runs that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synseg_model.text.tokenizer import Tokenizer
from synseg_model.weights.exported_folder import TOKENIZER, Export

AT_ONCE = 64  # prompts of one run


class TextEncoder:
    """An exported folder's tokenizer and text tower; run: token ids (N,L) int64 to embeddings (N,D) float32."""

    def __init__(
        self, folder: Path, export: Export, context_length: int, run: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self._tokenizer = Tokenizer(export.check_file(folder, TOKENIZER).read_bytes(), context_length)
        self._run = run

    def count_tokens(self, text: str) -> int:
        return self._tokenizer.count_tokens(text)

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        starts = range(0, len(prompts), AT_ONCE)
        return np.concatenate([self._run(self._tokenizer.tokenize(prompts[i : i + AT_ONCE])) for i in starts])
