"""Captioned photographs that `training.prepare_photos` packed, as pairs of images and labels."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from training.captions.extraction import head_noun
from training.datasets.pairs import Damages, Pair, Pairs
from training.datasets.photos import PhotoError
from training.datasets.photos.packed import Packed, read_packed
from training.words.synonyms import Synonyms, held_out_words, load_synonyms


class PackedCaptions(Pairs):
    """Every captioned photograph once an epoch, with labels that name different things.

    A photograph keeps the labels of all its captions, which say one thing in several words: "man", "a man in a hat",
    "person". Of those one is drawn by seed and epoch, as MCCL pulls the labels of an image apart; what is left out is
    `Pair.known`, so that no other photograph's "person" is taken for absent. Words that the table of synonyms holds
    out, for measuring what was never shown, are dropped.

    Attributes:
        size: pairs in an epoch of all nodes together; damaged photographs are among them.
    """

    def __init__(self, folder: str | Path, seed: int = 0) -> None:
        """Read the training part of a folder of packed photographs into memory, still encoded.

        Raises:
            ValueError: there is none, or no photograph in it has captions with two labels.
        """
        super().__init__(seed)
        _, photos = read_packed(Path(folder) / "train")
        table = load_synonyms()
        apart = held_out_words(table)
        self.photos: list[tuple[Packed, list[str]]] = []
        for photo in photos:
            names = [name for name in photo.names if apart.isdisjoint((name, head_noun(name)))]
            if photo.kind == "captions" and len(names) > 1:
                self.photos.append((photo, names))
        self.size = len(self.photos)
        if not self.size:
            raise ValueError(
                f"{folder} has {len(photos)} photographs and none with captions of two labels: pack a data set that "
                "has captions, such as flickr8k (python -m training.prepare_photos)"
            )
        self.related = related_words(table)

    def read(self, damages: Damages) -> Iterator[Pair]:
        """Yield this worker's pairs of the epoch."""
        order = list(range(self.size))
        self.rng().shuffle(order)
        for row in self.share(order):
            photo, names = self.photos[row]
            try:
                image, _ = photo.decode()
            except PhotoError as error:
                damages.note("damaged photograph", str(error))
                continue
            yield Pair(image, distinct_labels(names, self.related, self.rng(row)), known=names)


def related_words(table: Mapping[str, Synonyms]) -> dict[str, set[str]]:
    """Return for each word of a table of synonyms the words that may name the same thing."""
    related: dict[str, set[str]] = {}
    for name, entry in table.items():
        same = {name, *entry.train, *entry.held_out}
        for word in same:
            related.setdefault(word, set()).update(same, entry.narrower)
        for word in entry.narrower:  # a man is a person; a woman is one, too, and no man
            related.setdefault(word, {word}).update(same)
    return related


def distinct_labels(names: Sequence[str], related: dict[str, set[str]], rng: random.Random) -> list[str]:
    """Draw labels of which no two have a noun in common or nouns that may name the same thing."""
    drawn, taken = [], set()
    for name in rng.sample(names, len(names)):
        own = {name, head_noun(name)}
        if taken.isdisjoint(own):
            drawn.append(name)
            taken.update(own, *(related.get(word, ()) for word in own))
    return drawn
