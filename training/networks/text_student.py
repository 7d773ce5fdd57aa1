"""The small text encoder: open_clip's causal text tower with a tokenizer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import TextTransformer
from torch import Tensor
from torch.nn import functional as F

from synseg_model.network.text_tower import embed_tokens

TEXT_FILE, WEIGHTS_FILE = "text.json", "text.safetensors"  # of the student's folder, beside its merges


def tokenize(tokenizer: open_clip.SimpleTokenizer, texts: Sequence[str]) -> Tensor:
    """Turn texts into token ids (N, context_length) with start and end marks, padded with 0; long ones are cut."""
    length = tokenizer.context_length
    result = torch.zeros(len(texts), length, dtype=torch.long)
    for row, text in enumerate(texts):
        ids = [tokenizer.sot_token_id, *tokenizer.encode(text)[: length - 2], tokenizer.eot_token_id]
        result[row, : len(ids)] = torch.tensor(ids)
    return result


def prefixed(tokens: Tensor, words: Tensor) -> Tensor:
    """Put words (W,), as token ids, behind the start mark of token ids (N, context_length).

    Texts that would lose their end mark stay as they are.
    """
    longer = torch.cat([tokens[:, :1], words.expand(len(tokens), -1), tokens[:, 1:]], dim=1)
    fits = longer[:, tokens.shape[1] :].sum(dim=1, keepdim=True) == 0
    return torch.where(fits, longer[:, : tokens.shape[1]], tokens)


def encode(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """Embed token ids (N, context_length): (N, D), not normalised. Reads no further than the longest text."""
    # The end mark has the highest id. On a GPU nothing is cut: asking for the length would wait for it.
    length = tokens.shape[1] if tokens.is_cuda else int(tokens.argmax(dim=-1).max()) + 1
    return embed_tokens(tower, tokens[:, :length])


@torch.no_grad()
def embed(tower: TextTransformer, tokenizer: open_clip.SimpleTokenizer, texts: Sequence[str]) -> Tensor:
    """Embed texts with the student: (N, D), of length 1, in float32."""
    device = tower.positional_embedding.device
    parts = tokenize(tokenizer, texts).to(device).split(4096)
    return torch.cat([F.normalize(encode(tower, part).float(), dim=-1) for part in parts])


def load_tokenizer(path: Path, context_length: int) -> open_clip.SimpleTokenizer:
    """Load the tokenizer of a merges file."""
    return open_clip.SimpleTokenizer(bpe_path=str(path), context_length=context_length)
