"""Texts that count as one label: case and whitespace do not matter. Needs no library."""

from __future__ import annotations

import unicodedata

SPACES = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"), " ")  # zero-width space, word joiner, byte-order mark


def fold(label: str) -> str:
    """Fold a label, so that labels become equal that differ in case and whitespace alone."""
    return case_key(" ".join(label.translate(SPACES).split()))


def case_key(label: str) -> str:
    """Fold the case of a label, by Unicode's canonical caseless matching."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", label).casefold())
