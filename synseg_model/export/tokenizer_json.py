"""The tokenizer of an exported folder: open_clip's own, written for the `tokenizers` library."""

from __future__ import annotations

from synseg_model.text.tokenizer import END, START


def tokenizer_json(tokenizer) -> str:
    """Write an open_clip SimpleTokenizer as JSON of the `tokenizers` library.

    It encodes texts that were cleaned before.

    Args:
        tokenizer: the tokenizer.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as BytePairEncoder

    merges = [pair for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda item: item[1]) if len(pair) == 2]
    encoder = BytePairEncoder(
        models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    # The pattern leaves the marks out: `without_marks` has broken them up in every text.
    pattern = tokenizer.pat.pattern.removeprefix(f"{START}|{END}|")
    encoder.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i:{pattern})"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    encoder.decoder = decoders.ByteLevel()
    return encoder.to_str()
