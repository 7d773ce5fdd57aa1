"""Data sets whose masks are label images: one value per class."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.datasets.photos.names import true_names
from training.datasets.photos.photo import (
    UNLABELLED,
    Photo,
    PhotoError,
    PhotoSet,
    check_size,
    decode,
    read_file,
    read_image,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_PALETTE = 3  # the colour type in a PNG header, byte 25

# What each value of a label image means: the names of a region, or None where nothing is known of the pixels.
Meaning = Mapping[int, tuple[str, ...] | None]


def read_labels(path: Path) -> np.ndarray:
    """Read a label image (H,W), uint8 or uint16; of one with a palette the indices.

    Raises:
        PhotoError: the file is missing, corrupt, or in colours.
    """
    content = read_file(path)
    if content[:2] == b"\x89P" and content[25:26] == bytes([_PALETTE]):  # OpenCV would give the palette's colours
        try:
            with Image.open(io.BytesIO(content)) as image:
                return np.array(image)
        except (OSError, SyntaxError) as error:
            raise PhotoError(f"{path} is no readable image ({error}): copy the file again") from None
    labels = decode(path, content, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise PhotoError(
            f"labels {path} are {labels.dtype} of shape {labels.shape}: expected one channel of class numbers"
        )
    return labels


def regions_of(labels: np.ndarray, meaning: Meaning, path: Path) -> tuple[tuple[tuple[str, ...], ...], np.ndarray]:
    """Turn a label image (H,W) into regions and their index map (H,W) uint8; values of the same meaning are one region.

    Raises:
        PhotoError: the labels hold a value without a meaning, or too many regions for an index map.
    """
    present = np.flatnonzero(np.bincount(labels.ravel()))
    table = np.full(max(present, default=0) + 1, UNLABELLED, np.uint8)
    regions: dict[tuple[str, ...], int] = {}
    for value in present.tolist():
        if value not in meaning:
            raise PhotoError(
                f"labels {path} hold the value {value}: expected the set's {len(meaning)} values from "
                f"{min(meaning)} to {max(meaning)}. Is it another data set's?"
            )
        names = meaning[value]
        if names is not None:
            index = regions.setdefault(names, len(regions))
            if index >= UNLABELLED:
                raise PhotoError(f"labels {path} hold over {UNLABELLED} regions: one image cannot have so many")
            table[value] = index
    return tuple(regions), table[labels]


class LabelMapSet(PhotoSet):
    """Photographs with one label image each."""

    def __init__(
        self,
        name: str,
        files: dict[str, tuple[Path, Path]],
        meaning: Meaning,
        exhaustive: Sequence[str],
    ):
        """Take the files as they were found.

        Args:
            name: of the data set.
            files: for every key the image and its labels.
            meaning: of each value of the label images.
            exhaustive: names that the set labels wherever they occur.
        """
        self.name, self.keys, self.exhaustive = name, list(files), tuple(dict.fromkeys(exhaustive))
        self._files, self._meaning = list(files.values()), meaning

    def __getitem__(self, index: int) -> Photo:
        image_path, labels_path = self._files[index]
        image, labels = read_image(image_path), self.read_labels(labels_path)
        check_size(image, labels, image_path, labels_path)
        return Photo(image, *regions_of(labels, self._meaning, labels_path))

    def read_labels(self, path: Path) -> np.ndarray:
        """Read one label file (H,W)."""
        return read_labels(path)


def class_meaning(
    names: Sequence[str], first: int = 0, none: Sequence[int] = (), void: Sequence[int] = ()
) -> dict[int, tuple[str, ...] | None]:
    """Give the values of class labels their meaning.

    Args:
        names: as the data set writes them, of the values `first`, `first` + 1, ...; an unusable name is unlabelled.
        first: value of the first name.
        none: values that are none of the names.
        void: further values of which nothing is known.
    """
    named = {value: true_names(name) or None for value, name in enumerate(names, first)}
    return named | dict.fromkeys(none, ()) | dict.fromkeys(void)


def pair_files(images: Path, labels: Path, keys: Sequence[str] | None = None, ending: str = ".png") -> dict:
    """Find the image of every label file, or of every key: {key: (image, labels)}, sorted by key.

    A key without an image gets the path that would be expected, so that reading says what is missing.
    """
    if keys is None:
        keys = [path.name.removesuffix(ending) for path in labels.glob(f"*{ending}")]
    found = {path.stem: path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    return {key: (found.get(key, images / f"{key}.jpg"), labels / f"{key}{ending}") for key in sorted(set(keys))}
