"""Compare label maps with a camera's known truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class TruthSegments:
    """What the indices of a truth map stand for: names[i] are all labels that segment i answers to.

    known[i] is False for pixels that nobody can name. Where there are such, of photographs, only the labels among the
    names were looked for; of a scene, every label is known to be absent that is not there.
    """

    names: tuple[frozenset[str], ...]
    known: tuple[bool, ...]
    nouns: tuple[str, ...]
    coloured: tuple[str, ...]
    stuff: tuple[str, ...]

    @classmethod
    def from_json(cls, text: str) -> TruthSegments:
        """Read the camera's list of {"kind", "noun", "color"}."""
        parts = json.loads(text)
        things = [part for part in parts if part["kind"] == "thing"]
        return cls(
            names=tuple(map(_names, parts)),
            known=tuple(part["kind"] != "unlabelled" for part in parts),
            nouns=tuple(dict.fromkeys(part["noun"] for part in things)),
            coloured=tuple(dict.fromkeys(f"{part['color']} {part['noun']}" for part in things)),
            stuff=tuple(dict.fromkeys(part["noun"] for part in parts if part["kind"] == "stuff")),
        )

    def mask(self, label: str, index_map: np.ndarray) -> np.ndarray:
        """Return the (H, W) bool pixels of "ball", "red ball" or "grass" in an index map."""
        return np.array([label.lower() in names for names in self.names])[index_map]

    def knows(self, label: str) -> bool:
        """Tell whether a label's pixels are known, if only that there are none."""
        return all(self.known) or any(label.lower() in names for names in self.names)

    def known_pixels(self, index_map: np.ndarray) -> np.ndarray:
        """Return the (H, W) bool pixels of an index map of which it is known what they are."""
        return np.array(self.known)[index_map]


def _names(part: dict[str, str | None]) -> frozenset[str]:
    if part["kind"] in ("background", "unlabelled"):
        return frozenset()
    return frozenset({part["noun"], f"{part['color']} {part['noun']}" if part["color"] else part["noun"]})


@dataclass
class IntersectionOverUnion:
    """Sum intersections and unions per label over many frames."""

    intersection: dict[str, int] = field(default_factory=dict)
    union: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        label_map: np.ndarray,
        labels: Sequence[str],
        ids: Sequence[int],
        index_map: np.ndarray,
        segments: TruthSegments,
    ) -> None:
        """Add one frame: an (H, W) label map with ids[i] for labels[i], and the truth's (H, W) index map.

        Labels that the truth does not know are left out, and so are pixels.
        """
        known = segments.known_pixels(index_map)
        for label, number in zip(labels, ids, strict=True):
            if not segments.knows(label):
                continue
            found, true = (label_map == number) & known, segments.mask(label, index_map)
            self.intersection[label] = self.intersection.get(label, 0) + int(np.count_nonzero(found & true))
            self.union[label] = self.union.get(label, 0) + int(np.count_nonzero(found | true))

    def per_label(self) -> dict[str, float]:
        """Return intersection over union in percent by label, leaving out labels never there nor found."""
        return {label: 100 * self.intersection[label] / union for label, union in self.union.items() if union}

    def mean(self) -> float | None:
        """Return the mean over labels in percent, None before the first frame."""
        values = list(self.per_label().values())
        return sum(values) / len(values) if values else None
