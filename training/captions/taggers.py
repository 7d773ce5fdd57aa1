"""The tagger of captions: spaCy's own English pipeline where it is installed, else the small one that ships here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from synseg_model.install_hints import missing_module
from training.captions.extraction import Word

if TYPE_CHECKING:
    from spacy import Language

SPACY_TAGGER = "en_core_web_sm"
SHIPPED_TAGGER = Path(__file__).parents[1] / "data" / "tagger"
NEEDED = ("tok2vec", "tagger", "attribute_ruler", "lemmatizer", "trainable_lemmatizer")  # parsing takes most time
WORK = {"tags": {"tagger"}, "lemmas": {"lemmatizer", "trainable_lemmatizer"}}  # and the parts that do it


class Tagger:
    """Tag captions with a spaCy pipeline.

    Attributes:
        name: the pipeline and its version; sidecars note it.
        source: what `load_tagger` takes to load the same one elsewhere.
    """

    def __init__(self, nlp: Language, source: str) -> None:
        self._nlp = nlp
        self.source = source
        self.name = f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"

    def tag(self, captions: Iterable[str]) -> Iterator[list[Word]]:
        """Yield the words of each caption, in order."""
        for doc in self._nlp.pipe(captions, batch_size=256):
            yield [
                Word(token.text, token.tag_, token.lemma_ or token.lower_, not token.whitespace_)
                for token in doc
                if not token.is_space
            ]


@cache
def load_tagger(name: str = "auto") -> Tagger:
    """Load a tagger once per process.

    Args:
        name: "auto" takes en_core_web_sm where it is installed, else the shipped tagger; "shipped"; the name of an
            installed spaCy pipeline; or the folder of one.

    Raises:
        ValueError: spaCy or the pipeline is missing, or it gives no tags or no lemmas.
    """
    try:
        import spacy
    except ModuleNotFoundError as error:
        raise ValueError(missing_module(error)) from error
    if name == "auto":
        name = SPACY_TAGGER if spacy.util.is_package(SPACY_TAGGER) else "shipped"
    source = SHIPPED_TAGGER if name == "shipped" else name
    try:
        nlp = spacy.load(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the tagger {name!r} cannot be loaded: {error}. Accepted: auto, shipped, an installed spaCy pipeline, "
            "or the folder of one; python -m training.train_tagger makes one."
        ) from error
    lacking = [what for what, pipes in WORK.items() if not pipes & set(nlp.pipe_names)]
    if lacking:
        raise ValueError(f"the tagger {name!r} gives no {' and no '.join(lacking)}; its parts: {nlp.pipe_names}.")
    for pipe in nlp.pipe_names:
        if pipe not in NEEDED:
            nlp.disable_pipe(pipe)
    return Tagger(nlp, name)
