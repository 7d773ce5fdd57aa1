"""A photograph with what its data set says of it: masks with names, names of the whole image, or captions."""

from __future__ import annotations

import importlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from training.objective.index_maps import UNLABELLED as UNLABELLED

# Each kind of data set and the function that opens it; a reader is imported when it is asked for.
KINDS = {
    "nyu": "open_nyu",
    "camvid": "open_camvid",
    "voc": "open_voc",
    "clothing": "open_clothing",
    "coco": "open_coco",
    "flickr8k": "open_flickr8k",
    "folders": "open_folders",
}


class PhotoError(ValueError):
    """A file of a data set that cannot be used; the text names it and says why."""


class MissingPhotosError(ValueError):
    """A data set that is not where it was said to be; the text shows the expected tree."""


@dataclass(frozen=True)
class Photo:
    """One photograph and what is known of it.

    Attributes:
        image: (H,W,3) uint8 RGB.
        regions: the names that are true of each region, most specific first. An empty tuple is a region that is none of
            the set's exhaustive names. Every region has at least one pixel.
        index_map: (H,W) uint8 indices into `regions`, `UNLABELLED` where nothing is known; None without masks.
        names: names of the whole image, most specific first, of sets without masks.
        captions: sentences about the image.
    """

    image: np.ndarray
    regions: tuple[tuple[str, ...], ...] = ()
    index_map: np.ndarray | None = None
    names: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


class PhotoSet(ABC, Sequence):
    """The photographs of one data set, read when they are asked for. Instances can be sent to worker processes.

    Attributes:
        name: of the data set.
        keys: a stable identifier of each photograph, unique within the set.
        exhaustive: cleaned names that the set labels wherever they occur: one that is not among a photograph's regions
            is not in its image.
    """

    name: str
    keys: list[str]
    exhaustive: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def __getitem__(self, index: int) -> Photo:
        """Read a photograph.

        Raises:
            PhotoError: the image or its labels are missing, corrupt, or of different sizes.
        """


class PhotoSubset(PhotoSet):
    """Some of the photographs of a set, in the set's order."""

    def __init__(self, photos: PhotoSet, keys: Iterable[str]):
        """Keep the photographs whose key is among `keys`."""
        wanted = set(keys)
        self.photos, self.name, self.exhaustive = photos, photos.name, photos.exhaustive
        self.places = [place for place, key in enumerate(photos.keys) if key in wanted]
        self.keys = [photos.keys[place] for place in self.places]

    def __getitem__(self, index: int) -> Photo:
        return self.photos[self.places[index]]


def open_photos(kind: str, root: str | Path, split: str = "train") -> PhotoSet:
    """Open a data set of photographs in its official layout or a reduced one.

    Args:
        kind: nyu, camvid, voc, clothing, coco, flickr8k, or folders (one name per image, from its folder or file name).
        root: the data set's folder.
        split: an official split, where the layout has some: train, val or test of camvid; train (with the masks of SBD
            where they are there), val or trainval of voc; train or val of coco. The other sets have only "train": all.

    Raises:
        ValueError: the kind or the split is unknown.
        MissingPhotosError: the folder has none of the known layouts; the text shows them.
    """
    if kind not in KINDS:
        raise ValueError(f"photo data set {kind!r}: expected one of {', '.join(KINDS)}")
    module = importlib.import_module(f"{__package__}.{kind}")
    return getattr(module, KINDS[kind])(Path(root).expanduser(), split)


def training_and_held_out(kind: str, root: str | Path, share: float = 0.1, seed: int = 0) -> tuple[PhotoSet, PhotoSet]:
    """Open a data set in two parts that share no photograph: one to train on and one to measure on.

    CamVid has a split of its own for that (val). Every other set is divided by `held_out`.
    """
    photos = open_photos(kind, root)
    if kind == "camvid":
        return photos, open_photos(kind, root, "val")
    apart = held_out(photos.keys, share, seed)
    return PhotoSubset(photos, set(photos.keys) - apart), PhotoSubset(photos, apart)


def held_out(keys: Iterable[str], share: float, seed: int = 0) -> set[str]:
    """Choose the keys that are kept apart from training, by a hash of each key.

    A key is chosen or not whatever the other keys are, so that a set that grows keeps its division.

    Args:
        keys: of photographs.
        share: about which part of the keys to choose, from 0 to 1.
        seed: another seed chooses others.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share {share}: expected a number from 0 to 1")
    return {key for key in keys if zlib.crc32(f"{key} {seed}".encode()) < share * 2**32}


def one_split(title: str, split: str, splits: Iterable[str] = ("train",)) -> None:
    """Raise ValueError for a split that a data set does not have."""
    if split not in splits:
        raise ValueError(f"split {split!r} of {title}: expected {' or '.join(splits)}")


def missing(title: str, root: Path, tree: str) -> MissingPhotosError:
    """Make the error for a folder that does not hold a data set; `tree` shows its layouts, with {root}."""
    state = "is not there" if not root.exists() else "is a file" if root.is_file() else "has none of the known layouts"
    return MissingPhotosError(f"no {title} at {root}: the folder {state}. Expected:\n\n{tree.format(root=root)}")


def read_image(path: Path) -> np.ndarray:
    """Read an image (H,W,3) uint8 RGB. EXIF rotation is not applied: label files do not know of it.

    Raises:
        PhotoError: the file is missing, no image, or cut short.
    """
    image = decode(path, read_file(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_file(path: Path) -> bytes:
    """Read a file's content; raise PhotoError where that fails."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PhotoError(f"{path} is missing, which the data set's lists or labels name: copy the set again") from None
    except OSError as error:
        raise PhotoError(f"cannot read {path} ({error.strerror}): copy the file again") from None


def decode(path: Path, content: bytes, flags: int) -> np.ndarray:
    """Decode an image file's content as cv2.imread does; raise PhotoError where it is corrupt."""
    # OpenCV fills what a JPEG or PNG lacks with grey and says so on stderr alone: look for the file's end mark.
    ends = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
    end = ends.get(content[:2])
    if end and end not in content[-65536:]:
        raise PhotoError(f"{path} is cut short: copy the file again")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error as error:
        raise PhotoError(f"{path} is no readable image ({error.err}): copy the file again") from None
    if image is None:
        raise PhotoError(f"{path} is no readable image: copy the file again")
    return image


def check_size(image: np.ndarray, labels: np.ndarray, image_path: Path, labels_path: Path) -> None:
    """Raise PhotoError where labels (H,W) are not of the image's size."""
    if image.shape[:2] != labels.shape:
        raise PhotoError(
            f"{image_path} is {image.shape[1]}x{image.shape[0]} pixels and its labels {labels_path} are "
            f"{labels.shape[1]}x{labels.shape[0]}: they belong to different images, or one was resized"
        )
