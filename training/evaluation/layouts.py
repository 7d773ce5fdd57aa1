"""Where data sets keep their images and label files, and what to say where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.evaluation.coco_json import instance_samples
from training.evaluation.samples import EvaluationSample, LabelCodes


class MissingDataError(ValueError):
    """A data set that is not where it was said to be; its text shows the tree that is expected."""


@dataclass(frozen=True)
class Folders:
    """One way to lay out images and label files; "{split}" stands for the split's name.

    images, labels: folders. image, label: how file names end; what stands before is the same for both.
    names: text file with one name per line, else every label file is used. deep: search the label folder's subfolders,
    as Cityscapes needs. without: what the end of a label file's name must not be.
    codes: what the values of the label files mean. only: the splits that come in this layout, None for all.
    """

    images: str
    labels: str
    codes: LabelCodes
    image: str = ".jpg"
    label: str = ".png"
    names: str | None = None
    deep: bool = False
    without: str | None = None
    only: tuple[str, ...] | None = None

    def find(self, base: Path, split: str) -> list[EvaluationSample] | None:
        """List the samples below a folder, None where this layout is not there."""
        images, labels = base / self.images.format(split=split), base / self.labels.format(split=split)
        if not images.is_dir() or not labels.is_dir() or (self.only is not None and split not in self.only):
            return None
        if not any(images.glob(f"**/*{self.image}" if self.deep else f"*{self.image}")):
            return None  # images of another format: another layout's
        if self.names is None:
            pattern = f"**/*{self.label}" if self.deep else f"*{self.label}"
            found = [path.relative_to(labels).as_posix() for path in labels.glob(pattern)]
            names = sorted(
                path.removesuffix(self.label) for path in found if not (self.without and path.endswith(self.without))
            )
        else:
            path = base / self.names.format(split=split)
            if not path.is_file():
                return None
            names = path.read_text(encoding="utf-8").split()
        truths = [partial(self.codes.read, labels / f"{name}{self.label}") for name in names]
        return [
            EvaluationSample(name, images / f"{name}{self.image}", truth)
            for name, truth in zip(names, truths, strict=True)
        ] or None


@dataclass(frozen=True)
class Instances:
    """Images with one COCO instances file; crowds and things are drawn as classes, the rest is background.

    images, annotations: with "{split}". classes: names in index order. parts: splits that divide one file's images,
    each a function that says by an image's place in the sorted file whether it belongs.
    """

    images: str
    annotations: str
    classes: tuple[str, ...]
    parts: dict[str, Callable[[int], bool]] | None = None

    def find(self, base: Path, split: str) -> list[EvaluationSample] | None:
        images, path = (base / text.format(split=split) for text in (self.images, self.annotations))
        if not images.is_dir() or not path.is_file():
            return None
        samples = instance_samples(path, images, self.classes)
        if self.parts is None:
            return samples
        return [sample for place, sample in enumerate(samples) if self.parts[split](place)]


@dataclass(frozen=True)
class Tree:
    """A data set on disk: the layouts in which it comes, tried in this order, and the tree to show.

    inside: folders in which archives unpack, tried below the root. bare: a layout without splits, for samples of the
    data set; only where none of the others is there in any split.
    """

    layouts: tuple[Folders | Instances, ...]
    expected: str
    splits: tuple[str, ...]
    inside: tuple[str, ...] = ()
    bare: tuple[Folders, ...] = ()

    def samples(self, root: Path, split: str) -> tuple[list[EvaluationSample], bool]:
        """Find a split's samples below a root; the second value says whether they came without a split.

        Raise ValueError for a split that the data set does not have, MissingDataError with the expected tree where
        nothing fits.
        """
        if split not in self.splits:
            raise ValueError(f"split {split!r}: expected one of {', '.join(self.splits)}")
        root = Path(root).expanduser()
        bases = [root, *(root / folder for folder in self.inside)]
        for base in bases:
            for layout in self.layouts:
                if found := layout.find(base, split):
                    return found, False
        others = [
            other for other in self.splits if any(layout.find(base, other) for base in bases for layout in self.layouts)
        ]
        if not others:
            for base in bases:
                for layout in self.bare:
                    if found := layout.find(base, split):
                        return found, True
        state = "is not there" if not root.exists() else "is a file" if root.is_file() else "does not hold it"
        hint = f" (it has the split {', '.join(others)})" if others else ""
        raise MissingDataError(
            f"no data set at {root}: the folder {state}{hint}. Expected, for split {split!r}:\n\n"
            + self.expected.format(root=root, split=split)
        )
