"""Texts to embeddings: a CLIP-like text tower, causal and read at its end mark, with a byte-pair tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from synseg_model.config import EncoderConfig, ModelError
from synseg_model.text.tokenizer import without_marks

__all__ = ["ReadsText", "embed_tokens", "load_tokenizer"]


class ReadsText:
    """Read texts, as every encoder does.

    Attributes:
        text: the text tower: an open_clip CLIP or TextTransformer.
        tokenizer: the tokenizer that fits it; None where no text is read.
    """

    text: nn.Module
    tokenizer: open_clip.SimpleTokenizer | None

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text with its start and end marks, without cutting it."""
        return len(self.tokenizer.encode(without_marks(text, self.tokenizer.clean_fn))) + 2

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Turn N texts into token ids (N,context_length), padded with 0."""
        safe = [without_marks(text, self.tokenizer.clean_fn) for text in texts]
        return self.tokenizer(safe, context_length=self.text.context_length)

    @property
    def reads_to_the_end_mark(self) -> bool:
        """Whether nothing behind a text's end mark changes its embedding, as in CLIP's causal text tower."""
        text = self.text
        if isinstance(text, TextTransformer):
            return text.pool_type == "argmax" and text.attn_mask is not None and text.cls_emb is None
        return isinstance(text, open_clip.CLIP) and text.text_pool_type == "argmax" and text.attn_mask is not None

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed texts into the space that images and texts share.

        Args:
            tokens: token ids (N,context_length).

        Returns:
            (N,D), not normalised.
        """
        if not self.reads_to_the_end_mark:
            return self.text.encode_text(tokens)
        # Leaving out the padding behind the longest text makes short labels several times faster than open_clip's own
        # pass over all 77 positions.
        return self.encode_cut_text(tokens[:, : int(tokens.argmax(dim=-1).max()) + 1])

    def encode_cut_text(self, tokens: Tensor) -> Tensor:
        """Embed texts whose token ids are cut behind the longest text, by a tower that `reads_to_the_end_mark`.

        Args:
            tokens: token ids (N,L).

        Returns:
            (N,D), not normalised.
        """
        return embed_tokens(self.text, tokens)


def embed_tokens(text: nn.Module, tokens: Tensor) -> Tensor:
    """Embed token ids by a causal text tower, read at each text's end mark.

    Args:
        text: the text tower.
        tokens: token ids (N,L).

    Returns:
        (N,D), not normalised.
    """
    length = tokens.shape[1]
    x = text.token_embedding(tokens) + text.positional_embedding[:length]
    x = text.transformer(x, attn_mask=text.attn_mask[:length, :length])
    # As float32, which holds every id: onnxruntime has no arg-max of integers on a GPU.
    x = text.ln_final(x)[torch.arange(x.shape[0], device=x.device), tokens.float().argmax(dim=-1)]
    return text.text_projection(x) if isinstance(text.text_projection, nn.Linear) else x @ text.text_projection


def load_tokenizer(
    config: EncoderConfig, folder: Path | None, context_length: int, vocab_size: int
) -> open_clip.SimpleTokenizer:
    """Load the tokenizer that a model's config names.

    Args:
        config: the encoder's config; `merges` names a file in the model folder, None stands for CLIP's own.
        folder: the model folder.
        context_length: largest number of tokens that the text tower reads.
        vocab_size: number of tokens that the text tower knows.

    Raises:
        ModelError: where the merges are missing, unreadable or outside the folder, or do not fit the text tower.
    """
    if config.merges is None:
        tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
    else:
        path = Path(folder or ".") / config.merges
        if path.parent != Path(folder or "."):
            raise ModelError(f"merges file {config.merges!r} lies outside the model folder")
        try:
            tokenizer = open_clip.SimpleTokenizer(bpe_path=str(path), context_length=context_length)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read the tokenizer's merges {path}: {error}") from None
    if tokenizer.vocab_size != vocab_size:
        raise ModelError(f"the tokenizer has {tokenizer.vocab_size} tokens, the text tower {vocab_size}")
    return tokenizer
