"""The pedigree of a model: how it met each name in its training, from `names.json`. Needs no library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synseg_model.config import ModelError
from synseg_model.folding import fold
from synseg_model.weights.exported_folder import NAMES_FILE, Export, is_exported

__all__ = ["NEVER_MET", "Met", "Pedigree"]

FORMAT = 1
KINDS = ("masks", "captions", "images")
NEVER_MET = "never met"


@dataclass(frozen=True)
class Met:
    """Count how often a name was met in training.

    Attributes:
        masks: images whose masks taught it.
        captions: captions that had it.
        images: whole images that were named after it.
    """

    masks: int = 0
    captions: int = 0
    images: int = 0

    def __bool__(self) -> bool:
        return self.total > 0

    def __add__(self, other: Met) -> Met:
        return Met(self.masks + other.masks, self.captions + other.captions, self.images + other.images)

    def __str__(self) -> str:
        """Describe the counts in words, masks first."""
        parts = (
            (self.masks, f"taught by masks ({self.masks} image{'s' * (self.masks != 1)})"),
            (self.captions, f"met in captions ({self.captions})"),
            (self.images, f"named whole images ({self.images})"),
        )
        return ", ".join(text for count, text in parts if count) or NEVER_MET

    @property
    def total(self) -> int:
        """Number of times that the name was met."""
        return self.masks + self.captions + self.images


class Pedigree:
    """Hold the names that a model was taught, and how.

    An empty pedigree is false, and says nothing about any label.

    Args:
        names: how each name was met; case and whitespace do not count.
    """

    def __init__(self, names: Mapping[str, Met] | None = None) -> None:
        self._met: dict[str, Met] = {}
        self._spelled: dict[str, str] = {}
        for name, met in (names or {}).items():
            key = fold(name)
            self._met[key] = self._met.get(key, Met()) + met
            self._spelled.setdefault(key, " ".join(name.split()))

    @classmethod
    def read(cls, folder: str | Path) -> Pedigree:
        """Read the pedigree of a model folder or an exported folder.

        Args:
            folder: the folder.

        Returns:
            The pedigree; an empty one where the folder has none.

        Raises:
            ModelError: for a file that is damaged, or not the one that was exported.
        """
        path = Path(folder).expanduser() / NAMES_FILE
        if is_exported(path.parent):
            export = Export.read(path.parent)
            if NAMES_FILE not in export.files:  # a folder that was exported before models had it
                return cls()
            export.check_file(path.parent, NAMES_FILE)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"cannot read {path}: {error}") from None
        try:
            return cls(_parse(values))
        except ModelError as error:
            raise ModelError(f"{path}: {error}; copy or download it again") from None

    def of(self, label: str) -> Met:
        """Return how a label was met; case and whitespace do not count.

        Args:
            label: any text.

        Returns:
            The counts, which are false where the label was never met.
        """
        return self._met.get(fold(label), Met())

    def __len__(self) -> int:
        return len(self._met)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names that were met, those with the most masks first."""
        known = [key for key, met in self._met.items() if met]
        known.sort(key=lambda key: (-self._met[key].masks, -self._met[key].total))
        return (self._spelled[key] for key in known)

    def summary(self) -> str:
        """Say in one line how many names were taught how; a name may count under several kinds."""
        every = self._met.values()
        masks, captions, images = (sum(getattr(met, kind) > 0 for met in every) for kind in KINDS)
        taught = f"{masks} taught by masks, {captions} met in captions, {images} named whole images"
        return f"{sum(map(bool, every))} known: {taught}"


def _parse(values: Any) -> dict[str, Met]:
    if not isinstance(values, dict) or not isinstance(values.get("names"), dict):
        raise ModelError('expected {"format": 1, "names": {NAME: {"masks": N, "captions": N, "images": N}}}')
    if values.get("format") != FORMAT:
        raise ModelError(f"format {values.get('format')!r}: this version of synseg reads format {FORMAT}")
    names = {}
    for name, counts in values["names"].items():
        if not isinstance(counts, dict):
            raise ModelError(f"name {name!r} is {counts!r}: expected an object of counts")
        met = {kind: counts.get(kind, 0) for kind in KINDS}  # other keys may come from newer versions
        for kind, count in met.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 0:
                raise ModelError(f"{kind} of {name!r} is {count!r}: expected a whole number from 0")
        names[name] = Met(**met)
    return names
