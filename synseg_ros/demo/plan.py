"""What the demo shows for the given arguments: which camera, which labels first, and which then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from synseg_model.media import open_source
from synseg_ros.demo.truth import TruthSegments
from synseg_ros.parameters import ros_arguments

SCENES, SCENE_SEED = "scenes", 7
STREET = ("person", "car", "road", "tree", "building", "sky")
SHORTEST_FOLDER = 20  # images; fewer are shown again and again, so that both vocabularies see enough


@dataclass(frozen=True)
class Plan:
    """Say how the camera plays, and which labels were asked for.

    source: SCENES or a path. every: each picture waits until the one before was segmented, so that none is
    dropped; else the camera plays at its own rate. frames: pictures that are shown once each; None: without end.
    """

    source: str
    labels: tuple[str, ...]
    every: bool = False
    frames: int | None = None

    @property
    def scenes(self) -> bool:
        """Return True for generated scenes, whose truth is known."""
        return self.source == SCENES

    def vocabularies(self, segments: TruthSegments | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the labels before and after the change.

        Of a scene: first the nouns and half of the stuff, then the things by colour and the other stuff. Of
        labels that were given: first half of them, then all.
        """
        if self.labels:
            half = self.labels[: len(self.labels) // 2]
            return half or (("object",) if self.labels != ("object",) else ("thing",)), self.labels
        if segments is None:
            return STREET[: len(STREET) // 2], STREET
        half = (len(segments.stuff) + 1) // 2
        first, other = segments.stuff[:half], segments.stuff[half:] or segments.stuff
        return (*segments.nouns, *first), (*segments.coloured, *other)


def make_plan(source: str | None, labels: str) -> Plan:
    """Plan for an image, folder, video or device (None: scenes) and "a, b" labels (empty: chosen to fit).

    Raises MediaError for a source that cannot be opened.
    """
    wanted = _split(labels)
    if not source:
        return Plan(SCENES, wanted)
    opened = open_source(source)
    path = os.path.abspath(source)  # which never reads "scenes"
    if opened.kind != "images":
        return Plan(path, wanted)
    return Plan(path, wanted, every=True, frames=opened.length if opened.length >= SHORTEST_FOLDER else None)


def _split(labels: str) -> tuple[str, ...]:
    names: dict[str, str] = {}
    for name in filter(None, map(str.strip, labels.split(","))):
        names.setdefault(name.casefold(), name)
    return tuple(names.values())


def camera_arguments(plan: Plan, topic: str, answers: str) -> Sequence[str]:
    """Return the ROS arguments of the camera player for a plan."""
    values = {"source": plan.source, "topic": topic, "loop": plan.frames is None}
    if plan.scenes:
        values["seed"] = SCENE_SEED
    if plan.every:
        values["wait_for"] = answers
    return ros_arguments(values)
