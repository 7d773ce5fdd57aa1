"""Compare label maps with the known truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class TruthSegments:
    """What the indices of a truth map mean.

    In a photograph, only the labels among the names were looked for. In a scene, every other label is known to be
    absent.

    Attributes:
        names: For each segment, all labels that name it.
        known: For each segment, whether it is known what it is. In photographs some pixels are not known.
        nouns: Nouns of the things in a scene, such as "ball".
        coloured: The same with their colours, such as "red ball".
        stuff: Surroundings in a scene, such as "grass".
    """

    names: tuple[frozenset[str], ...]
    known: tuple[bool, ...]
    nouns: tuple[str, ...]
    coloured: tuple[str, ...]
    stuff: tuple[str, ...]

    @classmethod
    def from_json(cls, text: str) -> TruthSegments:
        """Read what the player publishes on truth/segments: a JSON list of {"kind", "noun", "color"}.

        Args:
            text: The JSON text.
        """
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
        """Return a label's true mask.

        Args:
            label: Such as "ball", "red ball" or "grass".
            index_map: (H, W), the index of each pixel's segment.

        Returns:
            (H, W) bool.
        """
        return np.array([label.lower() in names for names in self.names])[index_map]

    def knows(self, label: str) -> bool:
        """Tell whether it is known which pixels a label has, or that it has none.

        Args:
            label: Such as "ball".
        """
        return all(self.known) or any(label.lower() in names for names in self.names)

    def known_pixels(self, index_map: np.ndarray) -> np.ndarray:
        """Tell for each pixel whether it is known what it shows.

        Args:
            index_map: (H, W), the index of each pixel's segment.

        Returns:
            (H, W) bool.
        """
        return np.array(self.known)[index_map]


def _names(part: dict[str, str | None]) -> frozenset[str]:
    if part["kind"] in ("background", "unlabelled"):
        return frozenset()
    return frozenset({part["noun"], f"{part['color']} {part['noun']}" if part["color"] else part["noun"]})


@dataclass
class IntersectionOverUnion:
    """Sum intersections and unions per label over frames.

    Attributes:
        intersection: Pixels by label.
        union: Pixels by label.
    """

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
        """Add one frame. Labels and pixels that the truth does not know are left out.

        Args:
            label_map: (H, W), with ids[i] where labels[i] is.
            labels: The labels.
            ids: Their numbers in the label map.
            index_map: The truth (H, W), with the index of each pixel's segment.
            segments: What the indices mean.
        """
        known = segments.known_pixels(index_map)
        for label, number in zip(labels, ids, strict=True):
            if not segments.knows(label):
                continue
            found, true = (label_map == number) & known, segments.mask(label, index_map)
            self.intersection[label] = self.intersection.get(label, 0) + int(np.count_nonzero(found & true))
            self.union[label] = self.union.get(label, 0) + int(np.count_nonzero(found | true))

    def per_label(self) -> dict[str, float]:
        """Return the intersection over union in percent by label, without labels that were never there nor found."""
        return {label: 100 * self.intersection[label] / union for label, union in self.union.items() if union}

    def mean(self) -> float | None:
        """Return the mean over labels in percent, None before the first frame."""
        values = list(self.per_label().values())
        return sum(values) / len(values) if values else None
