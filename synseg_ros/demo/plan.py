"""What the demo shows for the given arguments: which source, and which labels first and second."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from synseg_model.config import DEFAULT_MODEL
from synseg_model.io.sources import open_source
from synseg_model.weights.domain import GENERATED_SCENES
from synseg_ros.demo.truth import TruthSegments
from synseg_ros.parameters.options import ros_arguments
from synseg_ros.player.photographs.tour import Tour
from synseg_ros.player.sources import PHOTOGRAPHS, SCENES

SCENE_SEED, SCENES_MODEL = 7, "synseg-tiny"  # the only model that knows generated scenes
# What a robot may look for in the photographs: things at first, then other things and the surroundings.
PHOTOGRAPH_LABELS = (
    ("person", "cat", "bird", "cup"),
    ("person", "cat", "bird", "table", "tree", "building", "mountain", "water", "sky"),
)
STREET = ("person", "car", "road", "tree", "building", "sky")
PHASE_FRAMES = 60  # of a source without end that are seen with one vocabulary, if there is time
SHORTEST_FOLDER = 20  # images; fewer are shown again and again, so that both vocabularies see enough


@dataclass(frozen=True)
class Plan:
    """What the player shows, and which labels are given.

    Attributes:
        source: PHOTOGRAPHS, SCENES or a path.
        labels: Labels on the command line; empty: the plan chooses some that fit.
        every: Each image waits until the one before is segmented, so that none is dropped. Otherwise the player keeps
            its rate.
        frames: Number of images, which are shown once each; None: without end.
    """

    source: str
    labels: tuple[str, ...]
    every: bool = False
    frames: int | None = None

    @property
    def photographs(self) -> bool:
        """Return True for the photographs that ship with the package, whose truth is known."""
        return self.source == PHOTOGRAPHS

    @property
    def phase_frames(self) -> int:
        """Return for how many frames of a source without end one vocabulary is used; all of them for photographs."""
        return len(Tour()) if self.photographs else PHASE_FRAMES

    @property
    def model(self) -> str:
        """Return the name of the model that knows what is shown."""
        return SCENES_MODEL if self.scenes else DEFAULT_MODEL

    @property
    def scenes(self) -> bool:
        """Return True for generated scenes, whose truth is known."""
        return self.source == SCENES

    @property
    def has_truth(self) -> bool:
        """Return True where the player publishes the truth of its frames."""
        return self.scenes or self.photographs

    def vocabularies(self, segments: TruthSegments | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Choose the labels before and after the change.

        For photographs these are PHOTOGRAPH_LABELS. For a scene these are first the nouns and half of the stuff, then
        the things by colour and the other stuff. Of given labels these are first half of them, then all.

        Args:
            segments: The truth of a scene; None where it is not known.
        """
        if self.labels:
            half = self.labels[: len(self.labels) // 2]
            return half or (("object",) if self.labels != ("object",) else ("thing",)), self.labels
        if self.photographs:
            return PHOTOGRAPH_LABELS
        if segments is None:
            return STREET[: len(STREET) // 2], STREET
        half = (len(segments.stuff) + 1) // 2
        first, other = segments.stuff[:half], segments.stuff[half:] or segments.stuff
        return (*segments.nouns, *first), (*segments.coloured, *other)


def make_plan(source: str | None, labels: str) -> Plan:
    """Plan a demo.

    Args:
        source: An image, folder, video or device, "scenes", or "photographs" (also None). A folder with the name scenes
            is given as ./scenes.
        labels: As "a, b"; "" for some that fit.

    Raises:
        MediaError: The source cannot be opened.
    """
    wanted = _split(labels)
    if not source or source in (PHOTOGRAPHS, SCENES):
        return Plan(source or PHOTOGRAPHS, wanted)
    opened = open_source(source)
    path = os.path.abspath(source)  # which never reads "scenes" alone
    if opened.kind != "images":
        return Plan(path, wanted)
    return Plan(path, wanted, every=True, frames=opened.length if opened.length >= SHORTEST_FOLDER else None)


def _split(labels: str) -> tuple[str, ...]:
    names: dict[str, str] = {}
    for name in filter(None, map(str.strip, labels.split(","))):
        names.setdefault(name.casefold(), name)
    return tuple(names.values())


def node_arguments(plan: Plan, model: str, engine: str, topic: str, camera: str) -> Sequence[str]:
    """Return the ROS arguments of the node.

    Args:
        plan: The plan.
        model: Name or folder of the model.
        engine: Name of the engine.
        topic: Topic of the frames.
        camera: Name of the camera on that topic.
    """
    values = {"model": model, "engine": engine, "camera": topic, "camera_names": [camera]}
    if plan.scenes:  # a model that is for them is right here
        values["expect_domain"] = GENERATED_SCENES
        values["depth_topics"] = [f"{topic.rpartition('/')[0]}/depth/image_raw"]
    return ros_arguments(values)


def player_arguments(plan: Plan, topic: str, answers: str) -> Sequence[str]:
    """Return the ROS arguments of the player.

    Args:
        plan: The plan.
        topic: Topic of the frames.
        answers: Topic where frames are answered.
    """
    values = {"source": plan.source, "topic": topic, "loop": plan.frames is None}
    if plan.scenes:
        values["seed"] = SCENE_SEED
    if plan.every:
        values["wait_for"] = answers
    return ros_arguments(values)
