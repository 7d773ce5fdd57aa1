import open_clip
import pytest

from training.evaluation.classes import parse_classes, read_classes, read_templates

SIZES = {"voc": 20, "context": 59, "coco_object": 80, "coco_stuff": 171, "cityscapes": 19, "ade20k": 150, "camvid": 11}


@pytest.mark.parametrize(("stem", "size"), SIZES.items())
def test_class_list_has_as_many_classes_as_the_data_set(stem, size):
    assert len(read_classes(stem)) == size


@pytest.mark.parametrize(
    ("stem", "places"),
    [
        ("voc", {0: "aeroplane", 14: "person", 19: "tvmonitor"}),
        ("context", {0: "aeroplane", 48: "sofa", 49: "table", 58: "wood"}),
        ("coco_object", {0: "person", 10: "fire hydrant", 79: "toothbrush"}),
        ("coco_stuff", {79: "toothbrush", 80: "banner", 84: "building-other", 170: "wood"}),
        ("cityscapes", {0: "road", 11: "person", 18: "bicycle"}),
        ("ade20k", {0: "wall", 12: "person", 149: "flag"}),
        ("camvid", {0: "sky", 8: "car", 10: "bicyclist"}),
    ],
)
def test_classes_stand_in_the_order_of_the_label_files(stem, places):
    names = read_classes(stem).names
    assert {place: names[place] for place in places} == places


def test_context_is_alphabetical_as_its_label_files_are():
    names = read_classes("context").names
    assert list(names) == sorted(names)


def test_stuff_begins_with_the_things_of_coco_object():
    assert read_classes("coco_stuff").names[:80] == read_classes("coco_object").names


def test_queries_are_first_prompts_or_all_with_their_classes():
    classes = parse_classes("# a comment\n\nsofa: sofa, couch\ncar\ntvmonitor: tv monitor\n")
    assert classes.names == ("sofa", "car", "tvmonitor")
    assert classes.queries(aliases=False) == (["sofa", "car", "tv monitor"], [0, 1, 2])
    assert classes.queries(aliases=True) == (["sofa", "couch", "car", "tv monitor"], [0, 0, 1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing", "no classes"),
        ("car\ncar\n", "the name 'car' twice"),
        ("car: car, van\ntruck: van", "the prompt 'van' twice"),
        ("car: car,,van", "the prompt '' twice or empty"),
    ],
)
def test_faulty_class_list_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_classes(text)


def test_imagenet_templates_are_clips_own_80():
    assert list(read_templates("imagenet")) == [make("{}") for make in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert read_templates("single") == ("a photo of a {}.",)
