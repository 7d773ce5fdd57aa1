"""Captions come out of every kind of file in its own order, and damage is named, never fatal."""

import io
import json
import tarfile

import pytest

from training.captions.coco import coco_shards
from training.captions.samples import (
    BAD_LINE,
    MAX_CAPTION,
    NO_CAPTION,
    NO_IMAGE,
    NOT_TEXT,
    REPEATED_KEY,
    TOO_LONG,
    CaptionSample,
    DamageError,
)
from training.captions.sources import find_shards
from training.captions.tsv import tsv_shards
from training.captions.webdataset_shards import TarShard


def write_tar(path, members):
    """Write members (name, content) as they come."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read_tar(path):
    return list(TarShard(path, path.with_suffix(".labels.jsonl")).samples())


def sample_members(key, caption):
    return [
        (f"{key}.jpg", b"x" * 2100),
        (f"{key}.txt", caption),
        (f"{key}.json", json.dumps({"caption": caption})),
    ]


def test_tar_gives_captions_in_its_order_from_txt_or_else_json(tmp_path):
    members = [*sample_members("000000002", "a dog"), *sample_members("000000001", "ein Hündchen")]
    members += [("000000000.png", b"x"), ("000000000.json", '{"caption": "a cat"}')]
    assert read_tar(write_tar(tmp_path / "0.tar", members)) == [
        CaptionSample("000000002", "a dog"),
        CaptionSample("000000001", "ein Hündchen"),
        CaptionSample("000000000", "a cat"),
    ]


def test_keys_are_those_that_webdataset_reads(tmp_path):
    wds = pytest.importorskip("webdataset")
    members = [
        ("a/b.c/1.jpg", b"x"),
        ("a/b.c/1.txt", "a dog"),
        ("2.seg.JPG", b"y"),
        ("2.jpg", b"z"),
        ("2.txt", "a cat"),
    ]
    path = write_tar(tmp_path / "0.tar", members)
    expected = [sample["__key__"] for sample in wds.WebDataset(str(path), shardshuffle=False)]
    assert [sample.key for sample in read_tar(path)] == expected


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("0.txt", "a dog")], NO_IMAGE),
        ([("0.jpg", b""), ("0.txt", "a dog")], NO_IMAGE),
        ([("0.jpg", b"x")], NO_CAPTION),
        ([("0.jpg", b"x"), ("0.txt", " \n")], NO_CAPTION),
        ([("0.jpg", b"x"), ("0.json", '{"caption": null}')], NO_CAPTION),
        ([("0.jpg", b"x"), ("0.txt", b"\xff\xfe\xfd")], NOT_TEXT),
        ([("0.jpg", b"x"), ("0.json", '{"caption": 7}')], NOT_TEXT),
        ([("0.jpg", b"x"), ("0.json", '["a dog"]')], NOT_TEXT),
        ([("0.jpg", b"x"), ("0.json", '{"caption": ')], NOT_TEXT),
        ([("0.jpg", b"x"), ("0.txt", "dog " * MAX_CAPTION)], TOO_LONG),
    ],
)
def test_sample_without_image_or_caption_says_why(tmp_path, members, problem):
    assert read_tar(write_tar(tmp_path / "0.tar", members)) == [CaptionSample("0", problem=problem)]


def test_repeated_key_is_named_once_more(tmp_path):
    members = [*sample_members("0", "a dog"), *sample_members("1", "a cat"), *sample_members("0", "a bird")]
    assert read_tar(write_tar(tmp_path / "0.tar", members)) == [
        CaptionSample("0", "a dog"),
        CaptionSample("1", "a cat"),
        CaptionSample("0", problem=REPEATED_KEY),
    ]


def damage(path, how):
    """Damage a tar of three samples, each of 10 blocks of 512 bytes: 6 for the image, 2 each for the texts."""
    content = bytearray(path.read_bytes())
    if how == "ends in an image":
        content = content[: 512 * 22]
    elif how == "ends in a caption":
        content = content[: 512 * 27 + 3]
    elif how == "ends after a sample":
        content = content[: 512 * 20]
    elif how == "garbage for a header":
        content[512 * 20 : 512 * 21] = b"\x01" * 512
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "how", ["ends in an image", "ends in a caption", "ends after a sample", "garbage for a header"]
)
def test_damaged_tar_gives_what_came_before_and_then_says_so(tmp_path, how):
    members = [member for key in "012" for member in sample_members(key, f"dog {key}")]
    shard = TarShard(damage(write_tar(tmp_path / "0.tar", members), how), tmp_path / "0.labels.jsonl")
    samples = shard.samples()
    assert [next(samples), next(samples)] == [CaptionSample("0", "dog 0"), CaptionSample("1", "dog 1")]
    with pytest.raises(DamageError, match="2 samples"):
        next(samples)


def test_file_that_is_no_tar_is_damage(tmp_path):
    path = tmp_path / "0.tar"
    path.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(DamageError, match="0 samples"):
        read_tar(path)


def write_coco(path, annotations):
    images = [{"id": i, "file_name": f"train2017/{i:012d}.jpg"} for i in (1, 2, 3)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_coco_captions_of_an_image_come_together_and_in_one_shard(tmp_path):
    annotations = [
        {"id": 10 * n + image, "image_id": image, "caption": f"{image} {n}"} for n in range(3) for image in (3, 1, 2)
    ]
    shards = coco_shards(write_coco(tmp_path / "captions.json", annotations), tmp_path / "out", shard_size=2)
    read = [[(s.key, s.caption_id, s.caption) for s in shard.samples()] for shard in shards]
    assert read == [[(f"{image:012d}", 10 * n + image, f"{image} {n}") for n in range(3)] for image in (1, 2, 3)]
    assert [shard.sidecar.name for shard in shards] == [f"0000{i}.labels.jsonl" for i in range(3)]


def test_damaged_coco_annotation_is_named_by_its_place(tmp_path):
    annotations = [{"id": 1, "image_id": 99, "caption": "x"}, "x", {"id": 2, "image_id": 1, "caption": "a dog"}]
    (shard,) = coco_shards(write_coco(tmp_path / "captions.json", annotations), tmp_path, shard_size=100)
    assert sorted(shard.samples()) == sorted(
        [
            CaptionSample("000000000001", "a dog", caption_id=2),
            CaptionSample("annotation 0", problem=BAD_LINE),
            CaptionSample("annotation 1", problem=BAD_LINE),
        ]
    )


@pytest.mark.parametrize("content", ["[]", "{", '{"images": []}', '{"images": [1], "annotations": []}'])
def test_file_that_holds_no_coco_captions_is_refused(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="is no COCO captions file"):
        coco_shards(path, tmp_path, 100)


@pytest.mark.parametrize(
    "lines",
    [
        ["http://x/1\ta dog", "http://x/2\ta cat"],
        ["a dog\thttp://x/1", "a cat\thttp://x/2"],
        ["url\tcaption", "http://x/1\ta dog", "http://x/2\ta cat"],
        ["caption\tclip_score\turl\r", "a dog\t0.3\thttp://x/1\r", "a cat\t0.2\thttp://x/2\r"],
    ],
)
def test_tsv_finds_address_and_caption_with_and_without_a_header(tmp_path, lines):
    path = tmp_path / "cc12m.tsv"
    path.write_text("\n".join(lines) + "\n")
    (shard,) = tsv_shards(path, tmp_path, 100)
    assert list(shard.samples()) == [CaptionSample("http://x/1", "a dog"), CaptionSample("http://x/2", "a cat")]


def test_tsv_shards_meet_without_gap_or_overlap(tmp_path):
    path = tmp_path / "ids.tsv"
    path.write_bytes(b"id\tcaption\n" + b"".join(f"{i}\tdog ü {i}\n".encode() for i in range(7)))
    shards = tsv_shards(path, tmp_path, 3)
    assert [[sample.key for sample in shard.samples()] for shard in shards] == [list("012"), list("345"), ["6"]]
    assert [shard.name for shard in shards] == [f"ids.tsv, lines {lines}" for lines in ("2-4", "5-7", "8-8")]


def test_damaged_tsv_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "ids.tsv"
    path.write_bytes(b"1\ta dog\nno tab\n\t a cat\n4\t\xff\n5\t\n6\ta bird")
    (shard,) = tsv_shards(path, tmp_path, 100)
    assert list(shard.samples()) == [
        CaptionSample("1", "a dog"),
        CaptionSample("line 2", problem=BAD_LINE),
        CaptionSample("line 3", problem=BAD_LINE),
        CaptionSample("line 4", problem=NOT_TEXT),
        CaptionSample("5", problem=NO_CAPTION),
        CaptionSample("6", "a bird"),
    ]


def test_tsv_without_a_tab_is_refused(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("dog\n")
    with pytest.raises(ValueError, match="no tab"):
        tsv_shards(path, tmp_path, 100)


@pytest.fixture
def three_tars(tmp_path):
    for i in range(3):
        write_tar(tmp_path / f"{i:05d}.tar", sample_members(f"{i}", "a dog"))
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [("", [0, 1, 2]), ("/{00000..00001}.tar", [0, 1]), ("/*[12].tar", [1, 2]), ("/00001.tar", [1])],
)
def test_shards_are_found_by_folder_braces_wildcard_and_name(three_tars, pattern, numbers):
    shards, folder = find_shards(f"{three_tars}{pattern}", None, 100)
    assert [shard.path.name for shard in shards] == [f"{i:05d}.tar" for i in numbers]
    assert [shard.sidecar for shard in shards] == [three_tars / f"{i:05d}.labels.jsonl" for i in numbers]
    assert folder == three_tars


def test_sidecars_go_to_the_output_folder_where_one_is_given(three_tars, tmp_path):
    shards, folder = find_shards(str(three_tars), str(tmp_path / "labels"), 100)
    assert {shard.sidecar.parent for shard in shards} == {tmp_path / "labels"} == {folder}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/{00000..00009}.tar", "7 of 10 names"),
        ("/{00000.tar", "unbalanced"),
        ("/nothing.tsv", "match no file"),
        ("/empty", "holds no .tar"),
        ("/notes.md", "kinds"),
    ],
)
def test_input_that_names_nothing_useful_is_refused_with_what_is_accepted(three_tars, pattern, message):
    (three_tars / "empty").mkdir()
    (three_tars / "notes.md").write_text("x")
    with pytest.raises(ValueError, match=message) as caught:
        find_shards(f"{three_tars}{pattern}", None, 100)
    assert "Accepted: a folder of webdataset shards" in str(caught.value)


def test_shards_of_one_name_do_not_overwrite_each_other(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "00000.tar", sample_members("0", "a dog"))
    shards, _ = find_shards(f"{tmp_path}/{{a,b}}/00000.tar", None, 100)
    assert len({shard.sidecar for shard in shards}) == 2
    with pytest.raises(ValueError, match="two shards have one name"):
        find_shards(f"{tmp_path}/{{a,b}}/00000.tar", str(tmp_path), 100)
