"""Images with one name each: a folder per name (Caltech 101), or the name in the file name (imagenet-sample-images).

File names start with ImageNet's id there, "n02099601_golden_retriever.jpg". The ids are WordNet's and were given out
group by group, so a range of ids is a kind of animal.
"""

from __future__ import annotations

from pathlib import Path

from training.datasets.photos.label_maps import IMAGE_SUFFIXES
from training.datasets.photos.names import also, clean_name
from training.datasets.photos.photo import Photo, PhotoSet, missing, one_split, read_image

TREE = """\
{root}/                           (or {root}/101_ObjectCategories)
    <name>/*.jpg                  (a folder per name)
or
{root}/
    <id>_<name>.jpg               (a name per file, after the first underscore)
"""
# First and last id of ILSVRC 2012's classes of a group.
GROUPS = (
    (1514668, 1622779, "bird"), (1795545, 1860187, "bird"), (2002556, 2058221, "bird"),
    (1629819, 1632777, "salamander"),
    (1641577, 1644900, "frog"), (1664065, 1669191, "turtle"), (1675722, 1695060, "lizard"),
    (1728572, 1756291, "snake"), (1773157, 1774750, "spider"), (1440764, 1443537, "fish"),
    (2085620, 2113978, "dog"), (2114367, 2114855, "wolf"), (2119022, 2120505, "fox"), (2123045, 2124075, "cat"),
    (2132136, 2134418, "bear"), (2276258, 2281787, "butterfly"), (2165105, 2177972, "beetle"),
    (2480495, 2483708, "ape"), (2484975, 2494079, "monkey"), (2514041, 2514041, "fish"), (2526121, 2655020, "fish"),
)  # fmt: skip
# The same word for two things: only the id tells them apart.
BY_ID = {
    "n02113186": "corgi", "n02108089": "boxer dog", "n02012849": "crane", "n03126707": "construction crane",
    "n01847000": "duck",
}  # fmt: skip


def open_folders(root: Path, split: str) -> FolderSet:
    """Open all images whose name can be used; see `open_photos`."""
    one_split(f"the named images in {root.name}", split)
    inside = root / "101_ObjectCategories"
    base = inside if inside.is_dir() else root
    found = [path for pattern in ("*/*", "*_*") for path in sorted(base.glob(pattern))]
    names = {path: _names(path, base) for path in found if path.suffix.lower() in IMAGE_SUFFIXES}
    if not names:
        raise missing("named images", root, TREE)
    return FolderSet(root.name, base, {path: some for path, some in names.items() if some})


def _names(path: Path, base: Path) -> tuple[str, ...]:
    if path.parent != base:
        name, group = clean_name(path.parent.name), ()
    else:
        number, _, raw = path.stem.partition("_")
        name, group = BY_ID.get(number) or clean_name(raw), _groups(number)
    return () if name is None else tuple(dict.fromkeys((name, *also(name), *group)))


def _groups(number: str) -> tuple[str, ...]:
    if not (number.startswith("n") and number[1:].isdecimal()):
        return ()
    return tuple(name for first, last, name in GROUPS if first <= int(number[1:]) <= last)


class FolderSet(PhotoSet):
    """Images with the names of what they show, without masks."""

    def __init__(self, name: str, base: Path, files: dict[Path, tuple[str, ...]]):
        """Take images and their names.

        Args:
            name: of the data set.
            base: folder of the images.
            files: for every image below `base` its names, the most specific first.
        """
        self.name, self._base = name, base
        self.keys = [path.relative_to(base).as_posix() for path in files]
        self._names = list(files.values())

    def __getitem__(self, index: int) -> Photo:
        return Photo(read_image(self._base / self.keys[index]), names=self._names[index])
