"""Train the tagger that training.prepare takes by default: `python -m training.train_tagger`.

It is a small spaCy pipeline: hashed word features, a convolutional encoder, Penn Treebank tags and edit-tree lemmas. It
learns from Universal Dependencies English EWT. The trained tagger is adapted material of that treebank and carries its
licence, CC BY-SA 4.0. The code around it has the project's licence.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jsonargparse
import numpy as np
import spacy
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.batchers import minibatch_by_words
from spacy.util import fix_random_seed
from thinc.api import Adam
from tqdm import tqdm

from training.captions.extraction import NOUNS
from training.captions.taggers import SHIPPED_TAGGER
from training.captions.treebank import Sentence, read_treebank
from training.captions.variations import Variations, vary, words_by_tag

VERSION = "1.0.0"
SPACY_VERSIONS = ">=3.8,<4.0"
TRAIN_FILE, DEV_FILE, LICENCE_FILE = "en_ewt-ud-train.conllu.gz", "en_ewt-ud-dev.conllu.gz", "LICENSE.txt"


@dataclass
class TrainTaggerConfig:
    """All settings of the tagger's training.

    Args:
        treebank: folder of UD English EWT: its train and dev files, gzipped, and its licence.
        output: folder that the tagger is written to. What is there is replaced.
        epochs: passes over the train file. The dev file chooses nothing; the tagger is measured on it at the end.
        width: channels of the encoder.
        depth: convolutions of the encoder, three words wide each.
        rows: rows of the hash tables of norm, prefix, suffix and shape.
        batch_words: words in a batch.
        learning_rate: learning rate of the first step; it falls to zero linearly.
        dropout: share of the features that are dropped while training.
        variations: how often sentences and words are changed.
        seed: seed of weights, order and variations.
    """

    treebank: str = "../shared/data/ud-english-ewt"
    output: str = str(SHIPPED_TAGGER)
    epochs: int = 15
    width: int = 64
    depth: int = 3
    rows: tuple[int, int, int, int] = (5000, 1000, 2500, 1000)
    batch_words: int = 1000
    learning_rate: float = 2e-3
    dropout: float = 0.15
    variations: Variations = field(default_factory=Variations)
    seed: int = 0


def build_pipeline(config: TrainTaggerConfig) -> spacy.Language:
    """Build the untrained pipeline."""
    nlp = spacy.blank("en")
    nlp.add_pipe(
        "tok2vec",
        config={
            "model": {
                "@architectures": "spacy.Tok2Vec.v2",
                "embed": {
                    "@architectures": "spacy.MultiHashEmbed.v2",
                    "width": config.width,
                    "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
                    "rows": list(config.rows),
                    "include_static_vectors": False,
                },
                "encode": {
                    "@architectures": "spacy.MaxoutWindowEncoder.v2",
                    "width": config.width,
                    "depth": config.depth,
                    "window_size": 1,
                    "maxout_pieces": 3,
                },
            }
        },
    )
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": config.width, "upstream": "tok2vec"}
    head = {"@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False, "tok2vec": listener}
    nlp.add_pipe("tagger", config={"model": head})
    nlp.add_pipe("trainable_lemmatizer", config={"model": head, "min_tree_freq": 3, "top_k": 3})
    return nlp


def example(nlp: spacy.Language, sentence: Sentence) -> Example:
    """Make a training example of a sentence, with the treebank's own word boundaries."""
    words, tags, lemmas, spaces = sentence
    return Example(
        Doc(nlp.vocab, words=words, spaces=spaces),
        Doc(nlp.vocab, words=words, spaces=spaces, tags=tags, lemmas=lemmas),
    )


def evaluate(nlp: spacy.Language, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Measure on the treebank's own word boundaries: tag and lemma accuracy, common nouns, lemmas of plurals."""
    docs = nlp.pipe(Doc(nlp.vocab, words=s.words, spaces=s.spaces) for s in sentences)
    rows = [
        (tag, token.tag_, lemma.lower(), token.lemma_.lower())
        for sentence, doc in zip(sentences, docs, strict=True)
        for token, tag, lemma in zip(doc, sentence.tags, sentence.lemmas, strict=True)
    ]
    hits = sum(tag in NOUNS and guess in NOUNS for tag, guess, _, _ in rows)
    scores = {
        "tag_acc": np.mean([tag == guess for tag, guess, _, _ in rows]),
        "lemma_acc": np.mean([lemma == guess for _, _, lemma, guess in rows]),
        "noun_precision": hits / sum(guess in NOUNS for _, guess, _, _ in rows),
        "noun_recall": hits / sum(tag in NOUNS for tag, _, _, _ in rows),
        "plural_lemma_acc": np.mean([lemma == guess for tag, _, lemma, guess in rows if tag == "NNS"]),
    }
    return {name: round(float(score), 4) for name, score in scores.items()}


def learn(nlp: spacy.Language, sentences: Sequence[Sentence], config: TrainTaggerConfig) -> None:
    """Train `nlp` in place; the rate falls linearly to zero."""
    fix_random_seed(config.seed)
    rng = random.Random(config.seed)
    optimizer: Adam = nlp.initialize(lambda: [example(nlp, sentence) for sentence in sentences])
    total = config.epochs * sum(len(sentence.words) for sentence in sentences)
    words = words_by_tag(sentences)
    seen = 0
    with tqdm(total=total, desc="tagger", unit="word", unit_scale=True, mininterval=2) as bar:
        for _ in range(config.epochs):
            order = rng.sample(list(sentences), len(sentences))
            examples = [example(nlp, vary(sentence, config.variations, words, rng)) for sentence in order]
            losses: dict[str, float] = {}
            for batch in minibatch_by_words(examples, config.batch_words):
                optimizer.learn_rate = config.learning_rate * max(1 - seen / total, 0.01)
                nlp.update(batch, drop=config.dropout, sgd=optimizer, losses=losses)
                size = sum(len(e.reference) for e in batch)
                seen += size
                bar.update(size)
            bar.set_postfix({name: f"{loss / len(examples):.3f}" for name, loss in losses.items() if loss})


def save(nlp: spacy.Language, config: TrainTaggerConfig, scores: dict[str, float], command: str) -> Path:
    """Write the tagger with its scores, its origin and its licence."""
    treebank, output = Path(config.treebank), Path(config.output)
    nlp.meta.update(
        name="synseg_tagger",
        version=VERSION,
        spacy_version=SPACY_VERSIONS,
        description="Tags and lemmas of captions' words, for training.prepare.",
        license="CC BY-SA 4.0",
        performance=scores,
        sources=[
            {
                "name": "Universal Dependencies English EWT",
                "url": "https://universaldependencies.org/treebanks/en_ewt",
                "author": "Natalia Silveira, Timothy Dozat, Christopher Manning and others",
                "license": "CC BY-SA 4.0",
            }
        ],
        training={
            "command": command,
            "seed": config.seed,
            "measured_on": DEV_FILE,
            "sha256": {
                name: hashlib.sha256((treebank / name).read_bytes()).hexdigest() for name in (TRAIN_FILE, DEV_FILE)
            },
        },
    )
    shutil.rmtree(output, ignore_errors=True)
    nlp.to_disk(output)
    shutil.copyfile(treebank / LICENCE_FILE, output / LICENCE_FILE)
    return output


def folder_bytes(folder: Path) -> int:
    """Sum the sizes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def train(config: TrainTaggerConfig, arguments: Iterable[str] = ()) -> Path:
    """Train, measure on the dev file and write the tagger; returns its folder.

    Raises:
        ValueError: the treebank folder lacks a file.
    """
    treebank = Path(config.treebank)
    missing = [name for name in (TRAIN_FILE, DEV_FILE, LICENCE_FILE) if not (treebank / name).is_file()]
    if missing:
        raise ValueError(f"{treebank} lacks {', '.join(missing)}; --treebank names the folder of UD English EWT.")
    nlp = build_pipeline(config)
    learn(nlp, list(read_treebank(treebank / TRAIN_FILE)), config)
    scores = evaluate(nlp, list(read_treebank(treebank / DEV_FILE)))
    output = save(nlp, config, scores, " ".join(["python -m training.train_tagger", *arguments]))
    print(f"wrote {output}, {folder_bytes(output) / 1e6:.1f} MB; on the dev file: {scores}")
    return output


def main() -> None:
    """Read the command line and train."""
    try:
        train(jsonargparse.auto_cli(TrainTaggerConfig, as_positional=False), sys.argv[1:])
    except ValueError as error:
        sys.exit(f"train_tagger: {error}")


if __name__ == "__main__":
    main()
