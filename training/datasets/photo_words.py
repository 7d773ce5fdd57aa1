"""The words of training on photographs: which ones samples may show, and which ones a run has shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from synseg_model.files import write_json
from synseg_model.network.synseg import SynSeg
from training.datasets.photo_batches import Words
from training.datasets.photos.packed import Packed
from training.networks.text_embedding import embed_phrases
from training.words.synonyms import held_out_words, load_synonyms


def open_words(network: SynSeg, photos: Sequence[Packed], exhaustive: dict[str, Sequence[str]]) -> Words:
    """Embed every name that training may show; words that the table holds out are shown in no way."""
    table = load_synonyms()
    names = {name for names in exhaustive.values() for name in names}
    for photo in photos:
        names.update(photo.names, *photo.regions)
    others = {name: entry.train for name, entry in table.items() if name in names}
    narrower = {name: entry.narrower for name, entry in table.items() if name in names}
    names.update(word for tables in (others, narrower) for words in tables.values() for word in words)
    kept = sorted(names - held_out_words(table))
    return Words(kept, embed_phrases(network, kept), others, narrower)


def write_names(path: Path, photos: Sequence[Packed], words: Words) -> None:
    """Write the names that training showed and how: the number of photographs with masks, captions or the name.

    A name that one caption alone says is left out: nothing was learned of it.
    """
    counts: dict[str, Counter[str]] = {}
    kinds = {"masks": "masks", "captions": "captions", "names": "images"}
    for photo in photos:
        for name in {*photo.names, *(name for names in photo.regions for name in names)}:
            for word in {name, *words.others.get(name, ())} & words.names.keys():
                counts.setdefault(word, Counter())[kinds[photo.kind]] += 1
    learned = {name: count for name, count in counts.items() if count != Counter(captions=1)}
    names = {name: dict(sorted((+count).items())) for name, count in sorted(learned.items())}
    write_json(path, {"format": 1, "names": names}, indent=0)
