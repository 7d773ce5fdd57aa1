"""NYU Depth V2: labelled rooms with about 900 raw names, 37 of which the usual 40 classes keep.

The 40 classes of Gupta et al. (CVPR 2013) are the 37 most frequent raw names and three rest classes (otherstructure,
otherfurniture, otherprop). A raw name among the 37 is its own class, every other one belongs to a rest class, so the
raw labels say all. A coffee table is a rest class there; here it is also a table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.datasets.photos.label_maps import LabelMapSet, pair_files, regions_of
from training.datasets.photos.names import clean_name, true_names
from training.datasets.photos.photo import Photo, PhotoError, PhotoSet, missing, one_split

NAMES_37 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag",
)  # fmt: skip
EXHAUSTIVE = tuple(clean_name(name) for name in NAMES_37)
MAT = "nyu_depth_v2_labeled.mat"
TREE = (
    "{root}/"
    + MAT
    + """      (or {root} is that file)
or
{root}/
    images/*.jpg        (or *.png)
    labels/*.png        (16 bit, 0 unlabelled, else a line of names.txt)
    names.txt           (one raw name per line)
"""
)


def open_nyu(root: Path, split: str) -> PhotoSet:
    """Open all labelled images; see `open_photos`."""
    one_split("NYU Depth V2", split)
    images, labels, names = root / "images", root / "labels", root / "names.txt"
    if images.is_dir() and labels.is_dir() and names.is_file():
        lines = names.read_text(encoding="utf-8").splitlines()
        return LabelMapSet("nyu", pair_files(images, labels), raw_meaning(lines), EXHAUSTIVE)
    mat = root if root.suffix == ".mat" else root / MAT
    if not mat.is_file():
        raise missing("NYU Depth V2", root, TREE)
    return NyuMat(mat)


def raw_meaning(raw: list[str]) -> dict[int, tuple[str, ...] | None]:
    """Give label values their names: 0 is unlabelled, i+1 is raw name i; an unusable name is none of the 37."""
    return {0: None} | {value: _names(name) for value, name in enumerate(raw, 1)}


def _names(raw: str) -> tuple[str, ...]:
    names = true_names(raw)
    if names and names[0] in EXHAUSTIVE:
        # The 37 exclude each other in this set: here a shower curtain is no curtain.
        return names[:1] + tuple(name for name in names[1:] if name not in EXHAUSTIVE)
    return names


class NyuMat(PhotoSet):
    """The official file of 1,449 labelled images, which is HDF5."""

    def __init__(self, path: Path):
        """Read names and counts; images are read from the file when they are asked for."""
        self.name, self.exhaustive, self._path = "nyu", EXHAUSTIVE, path
        with self._open() as content:
            try:
                references = content["names"][()].ravel()
                raw = ["".join(map(chr, content[reference][()].ravel())) for reference in references]
                count, labelled = content["images"].shape[0], content["labels"].shape[0]
            except (KeyError, TypeError, ValueError) as error:
                raise PhotoError(f"{path} is not the labelled data set of NYU Depth V2 ({error})") from None
        if count != labelled:
            raise PhotoError(f"{path} has {count} images and {labelled} label images: copy the file again")
        self.keys, self._meaning = [f"{number:04d}" for number in range(1, count + 1)], raw_meaning(raw)

    def __getitem__(self, index: int) -> Photo:
        index = range(len(self))[index]
        with self._open() as content:
            try:
                # MATLAB stores columns first: (3,W,H) and (W,H).
                image = np.ascontiguousarray(content["images"][index].transpose(2, 1, 0))
                labels = np.ascontiguousarray(content["labels"][index].T)
            except OSError as error:
                raise PhotoError(f"cannot read image {self.keys[index]} of {self._path} ({error})") from None
        return Photo(image, *regions_of(labels, self._meaning, self._path))

    def _open(self):
        try:
            import h5py
        except ImportError:
            raise PhotoError(f"{self._path} is an HDF5 file, and h5py is not installed: pip install h5py") from None
        try:
            return h5py.File(self._path, "r")
        except OSError as error:
            raise PhotoError(f"cannot open {self._path} as HDF5 ({error}): copy the file again") from None
