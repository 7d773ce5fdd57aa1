"""`python -m training.prepare_photos`: from data sets on disk to packed photographs."""

import shutil

import pytest

pytest.importorskip("spacy")

from tests.training import photo_files
from training.datasets.photos.packed import read_packed
from training.prepare_photos import SETS, PreparePhotosConfig, caption_names, prepare, run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Every data set, each with a photograph or two."""
    folder = tmp_path_factory.mktemp("data")
    for kind, name in SETS.values():
        photo_files.MAKERS[kind](folder / name)
    return folder


def packed(output):
    return {part: read_packed(output / part) for part in ("train", "held_out")}


def test_every_set_is_packed_with_its_masks_captions_or_names(root, tmp_path, capsys):
    output = prepare(PreparePhotosConfig(root=str(root), output=str(tmp_path), share=0.0))
    index, photos = packed(output)["train"]
    assert index["counts"] == {
        "nyu": 1, "camvid": 1, "voc": 1, "clothing": 1, "coco": 1, "flickr8k": 1, "caltech101": 1, "imagenet": 1,
    }  # fmt: skip
    kinds = {photo.set: photo.kind for photo in photos}
    assert {name for name, kind in kinds.items() if kind == "masks"} == {"nyu", "camvid", "voc", "clothing", "coco"}
    assert kinds["flickr8k"] == "captions" and kinds["caltech101"] == "names"
    by_set = {photo.set: photo for photo in photos}
    assert by_set["flickr8k"].names == ("dog",)
    assert by_set["caltech101"].names == ("car",)
    assert ("refrigerator",) in by_set["nyu"].regions
    assert by_set["camvid"].decode()[1].shape == (4, 6)
    assert "flickr8k 1" in capsys.readouterr().out


def test_exhaustive_names_are_those_of_each_set(root, tmp_path):
    index, _ = packed(prepare(PreparePhotosConfig(root=str(root), output=str(tmp_path))))["train"]
    assert set(index["exhaustive"]) == set(SETS)
    assert len(index["exhaustive"]["nyu"]) == 37 and len(index["exhaustive"]["camvid"]) == 11
    assert index["exhaustive"]["flickr8k"] == []
    assert index["settings"]["share"] == 0.1


def test_no_photograph_is_in_both_parts_and_sets_without_masks_are_trained_on_whole(root, tmp_path):
    root = shutil.copytree(root, tmp_path / "data")
    for number in range(30):
        photo_files.image(root / f"clothing-co-parsing/photos/{number:04d}.jpg")
        photo_files.labels(root / f"clothing-co-parsing/labels/{number:04d}.png", [0, 1, 2, 3, 3, 0])
    made = packed(prepare(PreparePhotosConfig(root=str(root), output=str(tmp_path / "packed"), share=0.5)))
    keys = {part: {(photo.set, photo.key) for photo in photos} for part, (_, photos) in made.items()}
    assert not keys["train"] & keys["held_out"]
    clothing = {part: sum(name == "clothing" for name, _ in found) for part, found in keys.items()}
    assert sum(clothing.values()) == 30 and 8 < clothing["train"] < 22
    assert not {name for name, _ in keys["held_out"]} & {"flickr8k", "caltech101", "imagenet"}
    assert ("camvid", "val_1") in keys["held_out"]


def test_the_same_settings_write_the_same_bytes(root, tmp_path):
    config = {"root": str(root), "output": str(tmp_path), "sets": ("nyu", "camvid")}
    prepare(PreparePhotosConfig(**config))
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    prepare(PreparePhotosConfig(**config))
    assert len(first) == 4 and all(path.read_bytes() == content for path, content in first.items())


def test_sets_that_are_missing_are_listed_and_left_out(tmp_path, capsys):
    photo_files.camvid(tmp_path / "elsewhere")
    assert run([f"--root={tmp_path}", f"--output={tmp_path / 'packed'}", "--share=0",
                f'--folders={{"camvid": "{tmp_path}/elsewhere"}}']) == 0  # fmt: skip
    error = capsys.readouterr().err
    assert error.count("left out") == len(SETS) - 1
    assert f"nyu: left out, no NYU Depth V2 at {tmp_path}/nyu-depth-v2: the folder is not there.\n" in error
    assert read_packed(tmp_path / "packed" / "train")[0]["counts"] == {"camvid": 1}


def test_no_set_at_all_is_an_error_that_names_the_folders(tmp_path, capsys):
    assert run([f"--root={tmp_path}", f"--output={tmp_path / 'packed'}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: no data set below {tmp_path}") and "nyu-depth-v2" in error
    assert not (tmp_path / "packed").exists()


def test_photographs_that_are_damaged_are_listed_and_left_out(tmp_path, capsys):
    (photo_files.camvid(tmp_path / "camvid") / "train/train_1.png").write_bytes(b"no image")
    photo_files.voc(tmp_path / "voc-aug")
    assert run([f"--root={tmp_path}", f"--output={tmp_path / 'packed'}", "--share=0"]) == 0
    assert "train_1.png is no readable image: copy the file again" in capsys.readouterr().err
    assert read_packed(tmp_path / "packed" / "train")[0]["counts"] == {"voc": 1}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (['--sets=["nyu", "kitti"]'], "sets kitti: expected some of nyu, camvid"),
        (["--share=1.5"], "share 1.5: expected a number from 0 to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(root, tmp_path, capsys, words, reason):
    try:
        status = run([f"--root={root}", f"--output={tmp_path}", *words])
    except SystemExit as stopped:  # jsonargparse ends the program itself for values that a setting refuses
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and reason in error and "Traceback" not in error


def test_captions_give_their_phrases_and_the_nouns_in_them_each_once():
    captions = ("A brown dog runs on green grass .", "The brown dog plays .")
    names = caption_names(captions)
    assert {"brown dog", "dog", "green grass", "grass"} <= set(names)
    assert len(names) == len(set(names))
    assert caption_names(("It runs .",)) == []
