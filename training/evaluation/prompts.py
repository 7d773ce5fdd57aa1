"""From class names to the text embeddings that a model's decoder takes, by each of the prompt sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from synseg_model.config import ModelConfig
from synseg_model.engine import Engine
from synseg_model.text.embedding_cache import TextCache
from training.evaluation.classes import PROMPT_SETS, read_templates


class _Prompted:
    """An engine's text tower that says it wants other templates: what the text cache asks of an engine."""

    def __init__(self, engine: Engine, config: ModelConfig):
        self.config, self.fingerprint = config, engine.fingerprint
        self.encode_text = engine.encode_text


def embed_names(
    engine: Engine, names: Sequence[str], prompts: str = "single", cache_dir: str | Path | None = None
) -> np.ndarray:
    """Embed class names, (K,D) float32.

    prompts: "model" (the model's own templates), "single" ("a photo of a {}.") or "imagenet" (80 templates: the mean of
    normalised embeddings, normalised). A decoder that takes embeddings as they come (`normalize_text` false, as
    CLIPSeg's) would meet vectors of a length it has never seen; for it the normalised mean gets the length of the
    name's single-prompt embedding, which changes no direction (ours: no paper says).
    Raise ValueError for another prompt set.
    """
    if prompts not in PROMPT_SETS:
        raise ValueError(f"prompts {prompts!r}: expected one of {', '.join(PROMPT_SETS)}")
    config = engine.config
    if prompts == "model":
        return TextCache(engine, cache_dir).embed(names)
    single = replace(config, templates=read_templates("single"))
    if prompts == "single":
        return TextCache(_Prompted(engine, single), cache_dir).embed(names)
    many = replace(config, templates=read_templates(prompts), normalize_text=True)
    cache = TextCache(_Prompted(engine, many), cache_dir)
    # Eighty prompts each take a while: with a bar, and what is embedded stays on disk.
    embeddings = np.concatenate([cache.embed([name]) for name in tqdm(names, desc="80 prompts each", unit="name")])
    if config.normalize_text:
        return embeddings
    lengths = np.linalg.norm(TextCache(_Prompted(engine, single), cache_dir).embed(names), axis=1, keepdims=True)
    return embeddings * lengths
