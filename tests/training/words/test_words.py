"""Nouns, synonyms, phrases and merges: what the text encoder learns from."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import open_clip
import pytest

from training.words.lesson import choose_phrases
from training.words.merges import FIXED, MERGES_FILE, learn_merges, write_merges
from training.words.nouns import Noun, NounsConfig, load_nouns, wordnet_nouns, write_nouns
from training.words.phrases import (
    KINDS,
    MEASURED_FILE,
    PHRASES_FILE,
    Phrase,
    PhrasesConfig,
    caption_labels,
    collect,
    read_phrases,
    write,
)
from training.words.synonyms import (
    Synonyms,
    canonical_names,
    held_out_words,
    load_synonyms,
    measured_pairs,
    pulled_groups,
)

TABLE = {
    "sofa": Synonyms(train=("couch",), held_out=("settee",)),
    "plate": Synonyms(train=("dish",)),
    "bowl": Synonyms(train=("dish",)),
    "rug": Synonyms(),
}


@pytest.fixture
def wordnet(tmp_path):
    """A WordNet of two things: a sofa, which some call a lounge, and a waiting room."""
    index = ["sofa n 1 1 @ 1 1 00000001", "couch n 1 1 @ 1 1 00000001", "paris n 1 1 @ 1 1 00000003"]
    index.append("lounge n 2 2 @ ~ 2 1 00000002 00000001")
    data = ["00000001 06 n 03 sofa 0 couch 0 lounge 0 000 | a seat", "00000002 06 n 01 lounge 0 000 | a room"]
    data.append("00000003 15 n 01 Paris 0 000 | a city")
    for name, lines in {
        "index.noun": index,
        "data.noun": data,
        "cntlist.rev": ["sofa%1:06:00:: 1 5", "couch%2:35:00:: 1 9"],
    }.items():
        (tmp_path / name).write_text("  1 licence\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_synonyms_share_their_most_frequent_sense(wordnet):
    nouns = {noun.text: noun for noun in wordnet_nouns(wordnet)}
    assert nouns["sofa"] == Noun("sofa", "artifact", 5, ("couch",))
    assert nouns["lounge"].synonyms == ()


def test_proper_names_are_no_nouns(wordnet):
    assert "paris" not in {noun.text for noun in wordnet_nouns(wordnet)}


def test_written_nouns_are_read_back(wordnet, tmp_path):
    path = write_nouns(NounsConfig(str(wordnet), str(tmp_path / "nouns.txt.gz")))
    assert set(load_nouns(path)) == set(wordnet_nouns(wordnet))


def test_a_folder_without_wordnet_is_named_with_what_it_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"no index\.noun.*--wordnet"):
        list(wordnet_nouns(tmp_path))


def test_shipped_nouns_know_everyday_synonyms():
    nouns = {noun.text: noun for noun in load_nouns()}
    assert "couch" in nouns["sofa"].synonyms
    assert nouns["car"].concrete and "automobile" in nouns["car"].synonyms
    assert not nouns["happiness"].concrete


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("sofa", "couch"),
        ("television", "tv"),
        ("refrigerator", "fridge"),
        ("bicycle", "bike"),
        ("motorcycle", "motorbike"),
        ("airplane", "aeroplane"),
        ("pavement", "sidewalk"),
        ("curtain", "drapes"),
        ("cabinet", "cupboard"),
        ("bookshelf", "bookcase"),
        ("picture", "painting"),
        ("sink", "washbasin"),
        ("nightstand", "bedside table"),
        ("trash bin", "garbage bin"),
        ("car", "automobile"),
        ("road", "street"),
    ],
)
def test_shipped_table_knows_what_people_say(name, other):
    assert other in load_synonyms()[name].train


def test_kinds_of_a_thing_are_no_synonyms_of_it():
    person = load_synonyms()["person"]
    assert {"man", "woman", "child"} <= set(person.narrower)
    assert {"man", "woman", "child"}.isdisjoint(person.train)


def test_held_out_words_are_pulled_by_nothing():
    table = load_synonyms()
    groups = pulled_groups(table, load_nouns())
    held_out = held_out_words(table)
    assert len(held_out) >= 30
    assert held_out.isdisjoint(groups)
    assert all(held_out.isdisjoint(group) for group in groups.values())


def test_a_word_for_several_things_is_pulled_to_none():
    groups = pulled_groups(TABLE, ())
    assert groups["couch"] == ("couch", "sofa")
    assert "dish" not in groups and "settee" not in groups and "rug" not in groups


def test_wordnet_adds_synonyms_only_where_the_table_is_silent():
    nouns = (
        Noun("sofa", "artifact", 1, ("lounge",)),
        Noun("violin", "artifact", 1, ("fiddle",)),
        Noun("joy", "feeling", 1, ("delight",)),
        Noun("setteebed", "artifact", 1, ("settees",)),
    )
    groups = pulled_groups(TABLE, nouns)
    assert groups["sofa"] == ("sofa", "couch")
    assert groups["violin"] == ("violin", "fiddle")
    assert "joy" not in groups and "setteebed" not in groups


def test_pairs_name_each_thing_once():
    table = {**TABLE, "couch": Synonyms(train=("sofa",), held_out=("settee",))}
    assert canonical_names(table) == ["sofa", "plate", "bowl", "rug"]
    assert measured_pairs(table) == {"trained": [("sofa", "couch")], "held_out": [("sofa", "settee")]}


def test_a_held_out_word_that_is_taught_is_refused(tmp_path):
    path = tmp_path / "synonyms.json"
    path.write_text(json.dumps({"sofa": {"train": ["couch"], "held_out": ["settee"]}, "bench": {"train": ["settee"]}}))
    with pytest.raises(ValueError, match="'settee' is held out, but 'bench' teaches it"):
        load_synonyms(path)


def test_an_unknown_list_is_refused(tmp_path):
    path = tmp_path / "synonyms.json"
    path.write_text(json.dumps({"sofa": {"tain": ["couch"]}}))
    with pytest.raises(ValueError, match="'tain'; there are train, held_out, narrower"):
        load_synonyms(path)


def test_phrases_are_said_otherwise_by_their_ends(tmp_path):
    config = PhrasesConfig(adjectives=3, caption_nouns=0)
    captions = Counter({"brown couch": 2, "settee": 1, "brown rug": 1})
    phrases = {phrase.text: phrase for phrase in collect(TABLE, (), captions, config)}
    assert phrases["brown couch"] == Phrase("caption", "brown couch", ("brown sofa",))
    assert phrases["settee"] == Phrase("name", "settee")
    assert phrases["brown rug"].others == ()
    coloured = [phrase for phrase in phrases.values() if phrase.kind == "adjective" and phrase.text.endswith(" sofa")]
    assert len(coloured) == 3
    assert all(phrase.others == (phrase.text.replace("sofa", "couch"),) for phrase in coloured)


def test_captions_come_from_sidecars(tmp_path):
    lines = [{"synseg_labels": 1}, {"key": "1", "labels": ["red sofa", "dog"]}, {"key": "2", "labels": ["dog"]}]
    (tmp_path / "00000.labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert caption_labels(tmp_path) == {"red sofa": 1, "dog": 2}
    with pytest.raises(ValueError, match=r"training\.prepare"):
        caption_labels(tmp_path / "nothing")


def test_the_written_folder_has_all_that_training_reads(tmp_path):
    folder = write(PhrasesConfig(output=str(tmp_path), adjectives=1, caption_nouns=0, tokens=2000))
    phrases = read_phrases(folder)
    assert {phrase.kind for phrase in phrases} == set(KINDS) - {"caption"}
    assert len({phrase.text for phrase in phrases}) == len(phrases)
    measured = json.loads((folder / MEASURED_FILE).read_text())
    assert "refrigerator" in measured["names"] and ["refrigerator", "fridge"] in measured["pairs"]["trained"]
    assert open_clip.SimpleTokenizer(bpe_path=str(folder / MERGES_FILE)).vocab_size == 2000
    assert (folder / PHRASES_FILE).stat().st_size < 5_000_000


def test_phrases_of_an_unknown_kind_are_refused(tmp_path):
    (tmp_path / PHRASES_FILE).write_bytes(gzip.compress(b"name\tsofa\nverb\tto sit\n"))
    with pytest.raises(ValueError, match="line 2: 'verb' is none of the kinds"):
        read_phrases(tmp_path)


def test_a_trial_run_takes_the_same_few_phrases_whatever_their_order():
    phrases = [Phrase("noun", f"noun {i}") for i in range(50)] + [Phrase("name", "sofa")]
    few = choose_phrases(phrases, 5)
    assert len(few) == 6
    assert set(few) == set(choose_phrases(phrases[::-1], 5))
    assert choose_phrases(phrases, 0) == phrases


def test_frequent_words_become_one_token(tmp_path):
    path = tmp_path / MERGES_FILE
    write_merges(path, learn_merges({"refrigerator": 50, "sofa": 30, "t-shirt": 20, "zebrafish": 1}, FIXED + 20))
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(path))
    assert len(tokenizer.encode("Refrigerator sofa")) == 2
    assert len(tokenizer.encode("zebrafish")) > 1
    assert tokenizer.decode(tokenizer.encode("refrigerator ünknown")).strip() == "refrigerator ünknown"


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValueError, match="bytes and marks alone are 514"):
        learn_merges({"sofa": 1}, 100)
