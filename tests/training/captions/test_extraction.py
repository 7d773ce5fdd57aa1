"""Labels of captions that are tagged by hand, so that no tagger's mistake hides a rule's."""

import json

import pytest

from training.captions.clean import clean_caption
from training.captions.extraction import MAX_WORDS, Word, extract_labels, head_noun
from training.captions.plurals import singular
from training.captions.stop_words import STOP_WORDS_FILE, read_stop_list, stop_list

LEMMAS = {
    "pecks": "peck",
    "grazes": "graze",
    "houses": "house",
    "dogs": "dog",
    "men": "man",
    "buses": "bus",
    "scissors": "scissor",
    "benches": "bench",
}


def labels(tagged):
    """Extract from "a/DT red/JJ bus/NN"; a tilde glues a word to the next one, as in "two~/CD -~/HYPH story/NN"."""
    words = []
    for item in tagged.split():
        text, tag = item.rsplit("/", 1)
        glued, text = text.endswith("~"), text.rstrip("~")
        words.append(Word(text, tag, LEMMAS.get(text.lower(), text.lower()), glued))
    return extract_labels(words, stop_list())


@pytest.mark.parametrize(
    ("tagged", "expected"),
    [
        ("A/DT dog/NN on/IN a/DT sofa/NN", ["dog", "sofa"]),
        ("the/DT red/JJ double/JJ decker/NN bus/NN", ["red double decker bus"]),
        ("a/DT world/NN famous/JJ bridge/NN", ["world famous bridge"]),
        ("the/DT sky/NN is/VBZ blue/JJ", ["sky"]),
        ("two/CD dogs/NNS and/CC three/CD men/NNS", ["dog", "man"]),
        ("Dogs/NNS", ["dog"]),
        ("a/DT pair/NN of/IN scissors/NNS", ["scissors"]),
        ("a/DT man/NN 's/POS hat/NN", ["man", "hat"]),
        ("he/PRP rides/VBZ it/PRP", []),
        ("", []),
    ],
)
def test_label_is_a_run_of_adjectives_and_nouns_that_ends_in_a_singular_noun(tagged, expected):
    assert labels(tagged) == expected


@pytest.mark.parametrize(
    ("tagged", "expected"),
    [
        ("a/DT black/JJ and/CC white/JJ cat/NN", ["black and white cat"]),
        ("a/DT black/JJ &/CC white/JJ cat/NN", ["black and white cat"]),
        ("a/DT big/JJ ,/, red/JJ bus/NN", ["big red bus"]),
        ("a/DT cat/NN and/CC white/JJ dog/NN", ["cat", "white dog"]),
        ("a/DT left/JJ and/CC a/DT red/JJ bus/NN", ["red bus"]),
        ("left/JJ and/CC right/JJ hand/NN", ["hand"]),
        ("old/JJ and/CC several/JJ dogs/NNS", ["old dog"]),
    ],
)
def test_joined_adjectives_stay_together_and_joined_things_do_not(tagged, expected):
    assert labels(tagged) == expected


@pytest.mark.parametrize(
    ("tagged", "expected"),
    [
        ("a/DT parked/VBN car/NN", ["parked car"]),
        ("a/DT tree/NN lined/VBN street/NN", ["tree lined street"]),
        ("a/DT running/VBG dog/NN", ["running dog"]),
        ("a/DT car/NN parked/VBN on/IN a/DT street/NN", ["car", "street"]),
        ("a/DT man/NN eating/VBG bananas/NN", ["man", "bananas"]),
        ("he/PRP has/VBZ eaten/VBN food/NN", ["food"]),
        ("a/DT very/RB well/RB made/VBN bed/NN", ["made bed"]),
        ("a/DT big/JJ very/RB red/JJ bus/NN", ["big red bus"]),
    ],
)
def test_participle_counts_as_adjective_before_its_noun_only(tagged, expected):
    assert labels(tagged) == expected


@pytest.mark.parametrize(
    ("tagged", "expected"),
    [
        ("Nike/NNP shoes/NN in/IN Paris/NNP", ["shoes"]),
        ("a/DT 1950s/NN car/NN and/CC 3/CD dogs/NNS", ["car", "dog"]),
        ("a/DT two~/CD -~/HYPH story/NN house/NN", ["two-story house"]),
        ("a/DT t~/NN -~/HYPH shirt/NN", ["t-shirt"]),
        ("a/DT b/NN and/CC a/DT dog/NN", ["dog"]),
    ],
)
def test_names_numbers_and_letters_are_no_labels(tagged, expected):
    assert labels(tagged) == expected


@pytest.mark.parametrize(
    ("tagged", "expected"),
    [
        ("a/DT image/NN of/IN a/DT dog/NN", ["dog"]),
        ("a/DT close/JJ up/NN of/IN a/DT dog/NN", ["dog"]),
        ("dogs/NNS in/IN front/NN of/IN a/DT bench/NN", ["dog", "bench"]),
        ("a/DT dog/NN at/IN the/DT camera/NN", ["dog"]),
        ("a/DT dog/NN with/IN a/DT camera/NN", ["dog", "camera"]),
        ("the/DT southwest/NN at/IN night/NN", []),
        ("several/JJ different/JJ dogs/NNS", ["dog"]),
        ("a/DT shot/NN glass/NN", ["shot glass"]),
        ("the/DT left/JJ hand/NN", ["hand"]),
    ],
)
def test_stop_list_takes_directions_units_images_times_and_phrases(tagged, expected):
    assert labels(tagged) == expected


def test_collection_is_a_label_unless_it_says_how_many_of_something():
    assert labels("a/DT crowd/NN of/IN men/NNS") == ["man"]
    assert labels("a/DT cheering/JJ crowd/NN") == ["cheering crowd"]


@pytest.mark.parametrize(
    ("tagged", "expected"),
    [
        ("A/DT bird/NN pecks/NNS at/IN fruit/NN", ["bird", "fruit"]),
        ("a/DT white/JJ sheep/NNS grazes/NNS", ["white sheep"]),
        ("the/DT bird/NN houses/NNS", ["bird house"]),
        ("a/DT few/JJ bird/NN houses/NNS", ["bird house"]),
        ("a/DT toy/NN sheep/NNS", ["toy sheep"]),
        ("a/DT dogs/NNS", ["dog"]),
    ],
)
def test_verb_that_a_tagger_took_for_a_plural_is_no_part_of_a_label(tagged, expected):
    assert labels(tagged) == expected


@pytest.mark.parametrize(
    ("text", "lemma", "expected"),
    [
        ("dogs", "dog", "dog"),
        ("zebras", "zebras", "zebra"),
        ("benches", "benches", "bench"),
        ("glasses", "glasses", "glass"),
        ("berries", "berries", "berry"),
        ("ties", "ties", "tie"),
        ("bus", "bus", "bus"),
        ("sheep", "sheep", "sheep"),
        ("potatoes", "potatoe", "potato"),
        ("bookshelves", "bookshelve", "bookshelf"),
        ("sportswomen", "sportswomen", "sportswoman"),
    ],
)
def test_plural_comes_in_the_singular_where_the_lemma_fails(text, lemma, expected):
    assert singular(text, lemma) == expected


def test_irregular_plural_comes_in_the_singular_whatever_its_tag():
    assert labels("Men/NN and/CC women/NN") == ["man", "woman"]
    assert labels("a/DT specimen/NN") == ["specimen"]


def test_thing_is_named_once_by_its_longest_name():
    assert labels("a/DT bus/NN ,/, a/DT red/JJ bus/NN and/CC a/DT red/JJ bus/NN") == ["red bus"]
    assert labels("a/DT red/JJ bus/NN beside/IN a/DT blue/JJ bus/NN") == ["red bus", "blue bus"]
    assert labels("a/DT bus/NN and/CC a/DT minibus/NN") == ["bus", "minibus"]


def test_label_keeps_the_words_nearest_to_its_noun_where_there_are_too_many():
    tagged = " ".join(f"word{'x' * i}/NN" for i in range(9)) + " boot/NN"
    (label,) = labels(tagged)
    assert len(label.split()) == MAX_WORDS
    assert label.endswith("wordxxxxxxxx boot")


def test_head_noun_is_the_last_word():
    assert head_noun("red double decker bus") == "bus"
    assert head_noun("bus") == "bus"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("  A dog\n on\ta sofa ", "A dog on a sofa"),
        ("<PERSON> rides a horse", "rides a horse"),
        ("a dog &amp; a cat", "a dog & a cat"),
        ("a dog https://example.org/dog.jpg?x=1 runs", "a dog runs"),
        ("White Dog On A Beach", "white dog on a beach"),
        ("WHITE DOG ON A BEACH", "white dog on a beach"),
        ("A dog in Paris", "A dog in Paris"),
        ("Dog Rex", "Dog Rex"),
        ("2 < 3 dogs", "2 < 3 dogs"),
    ],
)
def test_clean_caption_removes_what_the_web_adds_and_titles_capitals(caption, expected):
    assert clean_caption(caption) == expected


def test_lists_of_the_stop_list_are_whole_and_lower_case():
    stop = read_stop_list()
    assert {"front", "pair", "picture", "southwest", "night", "thing"} <= stop.heads
    assert stop.modifiers >= {"several", "left"}
    assert not stop.heads & stop.collections
    assert not stop.heads & stop.plurals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "1"}, "version"),
        ({"units": {"words": ["Pair"]}}, "units"),
        ({"phrases": ["in front of"]}, "phrases"),
    ],
)
def test_damaged_stop_list_is_refused_by_the_name_of_its_section(tmp_path, change, message):
    path = tmp_path / "stop.json"
    path.write_text(json.dumps(json.loads(STOP_WORDS_FILE.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_stop_list(path)


def test_missing_stop_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_stop_list(tmp_path / "none.json")
