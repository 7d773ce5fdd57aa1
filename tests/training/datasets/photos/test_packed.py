"""Packed photographs come back as they were, and what is damaged is said in one line."""

import dataclasses
import io
import json
import tarfile

import numpy as np
import pytest

from tests.training.photo_models import masked, named
from training.datasets.photos import Photo, PhotoError
from training.datasets.photos import packed as module
from training.datasets.photos.packed import INDEX_FILE, pack, read_packed, write_packed

ABOUT = {"exhaustive": {"nyu": ["ball", "grass"]}}
PHOTOS = [masked("nyu", str(number), "ball", "") for number in range(5)]
PHOTOS += [named("flickr8k", "a.jpg", ("dog", "green lawn"), ("A dog.",)), named("imagenet", "n1", ("cat",))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with three shards."""
    monkeypatch.setattr(module, "SHARD_BYTES", 3 * (len(PHOTOS[0].image) + len(PHOTOS[0].index_map)))
    write_packed(tmp_path / "packed", iter(PHOTOS), ABOUT)
    return tmp_path / "packed"


def test_photographs_come_back_as_they_were_in_their_order(folder):
    index, photos = read_packed(folder)
    assert photos == PHOTOS
    assert index["exhaustive"] == ABOUT["exhaustive"]
    assert index["counts"] == {"nyu": 5, "flickr8k": 1, "imagenet": 1}
    assert len(index["shards"]) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["00000.tar", "00001.tar", "00002.tar", INDEX_FILE]


def test_the_same_photographs_make_the_same_bytes(folder, tmp_path):
    write_packed(tmp_path / "again", iter(PHOTOS), ABOUT)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_masks_are_kept_exactly_and_images_nearly():
    rng = np.random.default_rng(0)
    image = np.full((40, 60, 3), (200, 40, 90), np.uint8)
    index_map = rng.integers(0, 256, (40, 60)).astype(np.uint8)
    photo = pack(Photo(image, (("ball",),), index_map), "nyu", "1")
    decoded, masks = photo.decode()
    assert np.array_equal(masks, index_map)
    assert np.abs(decoded.astype(int) - image).max() < 6
    assert photo.kind == "masks" and photo.regions == (("ball",),)


def test_large_photographs_are_reduced_and_their_masks_keep_their_values():
    index_map = np.zeros((300, 1000), np.uint8)
    index_map[:, 500:] = 7
    image, masks = pack(Photo(np.zeros((300, 1000, 3), np.uint8), (), index_map), "nyu", "1", largest=640).decode()
    assert image.shape == (192, 640, 3) and masks.shape == (192, 640)
    assert np.unique(masks).tolist() == [0, 7]
    thin = pack(Photo(np.zeros((1, 2000, 3), np.uint8)), "nyu", "1").decode()[0]
    assert thin.shape == (1, 640, 3)


def test_kind_says_what_is_known():
    image = np.zeros((4, 4, 3), np.uint8)
    assert pack(Photo(image, captions=("A dog.",)), "flickr8k", "1", ["dog"]).kind == "captions"
    own = pack(Photo(image, names=("cat",)), "imagenet", "1")
    assert (own.kind, own.names, own.decode()[1]) == ("names", ("cat",), None)


@pytest.mark.parametrize("change", [
    {"image": b""}, {"image": b"no image"}, {"index_map": b"no image"}, {"index_map": PHOTOS[0].index_map[:20]},
    {"index_map": masked("nyu", "2", "ball", "", size=(10, 10)).index_map}, {"index_map": PHOTOS[0].image},
])  # fmt: skip
def test_bytes_that_are_damaged_are_named(change):
    with pytest.raises(PhotoError, match="nyu 0: the packed image or its index map is damaged"):
        dataclasses.replace(PHOTOS[0], **change).decode()


def members(path):
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]


def cut(folder):
    path = folder / "00001.tar"
    path.write_bytes(path.read_bytes()[:1000])


def cut_between_photographs(folder):
    path = folder / "00000.tar"
    with tarfile.open(path) as tar:
        second = next(member for member in tar if member.name.startswith("000001"))
    path.write_bytes(path.read_bytes()[: second.offset])


def empty(folder):
    (folder / "00002.tar").write_bytes(b"")


def other_file(folder):
    (folder / "00000.tar").write_bytes(b"no tar file " * 500)


def missing(folder):
    (folder / "00001.tar").unlink()


def without_json(folder):
    path = folder / "00000.tar"
    kept = [(member, content) for member, content in members(path) if member.name != "000001.json"]
    with tarfile.open(path, "w") as tar:
        for member, content in kept:
            tar.addfile(member, io.BytesIO(content))


def index_cut(folder):
    (folder / INDEX_FILE).write_text((folder / INDEX_FILE).read_text()[:40])


def index_of_another_program(folder):
    (folder / INDEX_FILE).write_text(json.dumps({"shards": ["00000.tar"]}))


def index_missing(folder):
    (folder / INDEX_FILE).unlink()


@pytest.mark.parametrize(
    "damage",
    [cut, cut_between_photographs, empty, other_file, missing, without_json, index_cut, index_of_another_program,
     index_missing],
)  # fmt: skip
def test_damaged_folders_are_named_with_the_command_that_makes_them(folder, damage):
    damage(folder)
    with pytest.raises(ValueError, match=r"packed holds no .*photographs.*training\.prepare_photos --output"):
        read_packed(folder)
