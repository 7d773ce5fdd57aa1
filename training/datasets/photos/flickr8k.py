"""Flickr8k: images with five captions each."""

from __future__ import annotations

import csv
from pathlib import Path

from training.datasets.photos.photo import Photo, PhotoError, PhotoSet, missing, one_split, read_image

TREE = """\
{root}/
    Images/*.jpg
    captions.txt             (lines image,caption after a header)
or
{root}/
    Flicker8k_Dataset/*.jpg
    Flickr8k.token.txt       (lines image#number<TAB>caption)
"""


def open_flickr8k(root: Path, split: str) -> Flickr8k:
    """Open all captioned images; see `open_photos`."""
    one_split("Flickr8k", split)
    for images, captions in (
        (root / "Images", root / "captions.txt"),
        (root / "Flicker8k_Dataset", root / "Flickr8k.token.txt"),
        (root / "Flickr8k_Dataset", root / "Flickr8k.token.txt"),
        (root / "Flicker8k_Dataset", root / "Flickr8k_text/Flickr8k.token.txt"),
    ):
        if images.is_dir() and captions.is_file():
            return Flickr8k(images, captions)
    raise missing("Flickr8k", root, TREE)


class Flickr8k(PhotoSet):
    """Images with captions, without masks."""

    def __init__(self, images: Path, captions: Path):
        """Read the captions file: CSV, or the tab-separated one of the official archive."""
        self.name, self._images = "flickr8k", images
        found: dict[str, list[str]] = {}
        for name, caption in _rows(captions):
            found.setdefault(name, []).append(caption)
        # The official file captions one image that the archive does not have, under the name of no image file.
        self._captions = {name: tuple(texts) for name, texts in found.items() if name.endswith(".jpg")}
        self.keys = sorted(self._captions)

    def __getitem__(self, index: int) -> Photo:
        key = self.keys[index]
        return Photo(read_image(self._images / key), captions=self._captions[key])


def _rows(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.name == "captions.txt":
            rows = list(csv.reader(file))[1:]
        else:
            rows = [line.rstrip("\r\n").split("\t", 1) for line in file if line.strip()]
    wrong = next((row for row in rows if len(row) != 2), None)
    if wrong is not None:
        raise PhotoError(f"{path} has the line {','.join(wrong)!r}: expected an image and a caption")
    return [(name.split("#")[0].strip(), " ".join(caption.split())) for name, caption in rows]
