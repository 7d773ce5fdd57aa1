import pytest

from training.datasets.photos.names import GENERAL, SPELLINGS, UNUSABLE, also, clean_name, true_names


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("refridgerator", "refrigerator"), ("tvmonitor", "television"), ("tv", "television"),
        ("pottedplant", "potted plant"), ("dining table", "dining table"), ("aeroplane", "airplane"),
        ("motorbike", "motorcycle"), ("night stand", "nightstand"), ("car_side", "car"), ("Faces_easy", "face"),
        ("T-shirt", "t-shirt"), ("black-footed_ferret", "black footed ferret"), ("door  way", "doorway"),
        ("books", "books"), ("shelves", "shelves"), ("four-poster", "four-poster bed"),
    ],
)  # fmt: skip
def test_a_name_gets_its_everyday_spelling(raw, cleaned):
    assert clean_name(raw) == cleaned


@pytest.mark.parametrize("raw", ["otherprop", "otherfurniture", "null", "unknown", "", " ", "yin_yang"])
def test_a_name_that_says_nothing_is_dropped(raw):
    assert clean_name(raw) is None
    assert true_names(raw) == ()


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("dining table", ("table",)), ("office chair", ("chair",)), ("pedestrian", ("person",)), ("sofa", ()),
        ("chair", ()), ("toy car", ()), ("hot dog", ()), ("teddy bear", ("toy",)), ("paper towel", ()), ("dog bed", ()),
        ("yorkshire terrier", ("terrier", "dog")), ("sofa bed", ("sofa", "bed")),
    ],
)  # fmt: skip
def test_a_thing_is_also_what_is_more_general(name, more):
    assert also(name) == more


def test_cleaning_a_cleaned_name_changes_nothing():
    for name in (*SPELLINGS.values(), *GENERAL):
        assert clean_name(name) == name


def test_every_more_general_name_can_be_asked_for():
    general = {name for names in GENERAL.values() for name in names}
    assert not general & UNUSABLE
    assert {clean_name(name) for name in general} == general
