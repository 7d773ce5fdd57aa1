"""Byte-pair merges for open_clip's SimpleTokenizer, learned from weighted words."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

from open_clip.tokenizer import bytes_to_unicode
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from synseg_model.files import write_whole

MERGES_FILE = "merges.txt.gz"
FIXED = 512 + 2  # tokens that need no merge: bytes, bytes that end a word, and the two marks
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # as SimpleTokenizer splits text


def learn_merges(weights: Mapping[str, int], tokens: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges.

    Args:
        weights: words in lower case, and how often each counts.
        tokens: size of the vocabulary, at least FIXED. Few words may need fewer tokens.

    Returns:
        Pairs in the order in which they are merged, at most `tokens` - FIXED.

    Raises:
        ValueError: `tokens` is too small.
    """
    if tokens < FIXED:
        raise ValueError(f"a vocabulary of {tokens} tokens: bytes and marks alone are {FIXED}.")
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=tokens,
        show_progress=False,
        initial_alphabet=list(bytes_to_unicode().values()),
        end_of_word_suffix="</w>",
    )
    lines = (" ".join([word] * weight) for word, weight in sorted(weights.items()))
    tokenizer.train_from_iterator(lines, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges][: tokens - FIXED]


def write_merges(path: Path, merges: list[tuple[str, str]]) -> None:
    """Write a merges file for SimpleTokenizer: a version mark, then one pair per line, no newline at the end."""
    text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    data = gzip.compress(text.encode("utf-8"), mtime=0)
    write_whole(path, lambda file: file.write(data))
