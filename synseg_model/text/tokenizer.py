"""Prompts to CLIP's token ids, without torch: Python cleans the text, the `tokenizers` library encodes byte pairs."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

import ftfy
import numpy as np

__all__ = ["END", "START", "Tokenizer", "clean", "without_marks"]

START, END = "<start_of_text>", "<end_of_text>"
_MARK = re.compile(r"<(start_of_text|end_of_text)>", re.IGNORECASE)


class Tokenizer:
    """Give a prompt the ids that open_clip's SimpleTokenizer gives it.

    Args:
        tokenizer_json: contents of an exported `tokenizer.json`.
        context_length: largest number of tokens that the text tower reads.
    """

    def __init__(self, tokenizer_json: bytes, context_length: int) -> None:
        # Imported here: the torch engine shares this module's `without_marks` and needs no `tokenizers`.
        from tokenizers import Tokenizer as BytePairEncoder

        self._encoder = BytePairEncoder.from_buffer(tokenizer_json)
        self._start, self._end = (self._encoder.token_to_id(mark) for mark in (START, END))
        self._context_length = context_length

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without its start and end marks."""
        return self._encoder.encode(clean(without_marks(text, clean)), add_special_tokens=False).ids

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text with its start and end marks, without cutting it."""
        return len(self.encode(text)) + 2

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Turn texts into token ids.

        Args:
            texts: N texts; one beyond the context length is cut.

        Returns:
            (N,L) int64, padded with 0 to the longest text.
        """
        rows = [[self._start, *self.encode(text)[: self._context_length - 2], self._end] for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        return ids


def clean(text: str) -> str:
    """Tidy a text as CLIP's tokenizer does: repaired encoding, no HTML entities, single spaces, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def without_marks(text: str, clean: Callable[[str], str]) -> str:
    """Break up what the tokenizer would read as its own marks: a label is data and must not end its own prompt.

    Args:
        text: a prompt; it comes back unchanged where it has no marks.
        clean: what the tokenizer does to a text before it looks for marks. It turns HTML entities into characters, and
            wide characters into plain ones, so that "&lt;end_of_text&gt;" becomes a mark.
    """
    if text.isascii() and not re.search("[<&]", text):
        return text  # true of nearly every label; the rest is slow
    settled, before = clean(text), text
    while settled != before:  # entities may be nested, and the tokenizer cleans the text again
        settled, before = clean(settled), settled
    return _MARK.sub(r"< \1 >", settled) if _MARK.search(settled) else text
