"""One frame as Rerun's archetypes: what is logged, and under which names.

    CAMERA                            labels: names and colours
    CAMERA/image                      the image, a JPEG
    CAMERA/image/segmentation         the label map
    CAMERA/image/instances            a box with label and score per instance
    CAMERA/name                       name of the image file
    space/FRAME/CAMERA                labels, again
    space/FRAME/CAMERA/points         points with the colours of their labels
    space/FRAME/CAMERA/objects        a 3-D box with label and score per instance
    space/FRAME/CAMERA/positions      a point per instance

Names are lists of parts, so that a part may hold any character.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import rerun as rr

from synseg_model.instances import Instance, Position
from synseg_model.io.drawing import colors_of
from synseg_model.io.jpeg import encode_jpeg
from synseg_model.viewer.frame import Space, ViewedFrame
from synseg_model.vocabulary import Vocabulary

__all__ = ["Entity", "axes", "class_names", "image_entities", "no_space_entities", "space_entities", "space_path"]

JPEG_QUALITY = 80
MOST_POINTS = 50_000  # of one frame; more are thinned out: 640x480 pixels would take 5 MB
POSITION_RADIUS = -5.0  # negative: in pixels of the screen
IN_SPACE = ("points", "objects", "positions")

Entity = tuple[list[str], Any]  # the name's parts, and the archetype


def class_names(vocabulary: Vocabulary) -> rr.AnnotationContext:
    """Return names and colours of the labels, which are those of the overlay; background is transparent.

    Args:
        vocabulary: K labels.
    """
    colors = map(tuple, colors_of(vocabulary).tolist())
    labels = zip(vocabulary.ids, vocabulary.labels, colors, strict=True)
    return rr.AnnotationContext([(0, "", (0, 0, 0, 0)), *labels])


def image_entities(frame: ViewedFrame) -> Iterator[Entity]:
    """Yield what belongs to the image.

    Args:
        frame: the frame.
    """
    result, path = frame.result, [frame.camera, "image"]
    yield path, rr.EncodedImage(contents=encode_jpeg(frame.image, JPEG_QUALITY), media_type="image/jpeg")
    narrow = np.uint8 if max(result.ids) < 256 else np.uint16
    yield [*path, "segmentation"], rr.SegmentationImage(result.label_map.astype(narrow))
    yield (
        [*path, "instances"],
        rr.Boxes2D(
            array=np.array([instance.box for instance in frame.instances], np.float32).reshape(-1, 4),
            array_format=rr.Box2DFormat.XYWH,
            labels=_texts(frame.instances),
            class_ids=_classes(frame.instances),
        ),
    )
    if frame.name:
        yield [frame.camera, "name"], rr.TextDocument(frame.name)


def space_path(camera: str, space: Space) -> list[str]:
    """Return the name of what a camera sees in a coordinate frame.

    Args:
        camera: name of the camera.
        space: where its things are.
    """
    return ["space", space.frame_id or "camera", camera]


def axes(space: Space) -> rr.ViewCoordinates:
    """Return which way the axes of a coordinate frame point.

    Args:
        space: has the coordinate frame.
    """
    return rr.ViewCoordinates.RDF if space.optical else rr.ViewCoordinates.FLU


def space_entities(frame: ViewedFrame) -> Iterator[Entity]:
    """Yield what belongs to space.

    Args:
        frame: the frame, whose `space` is given.
    """
    space, path = frame.space, space_path(frame.camera, frame.space)
    points = space.points[:: -(-len(space.points) // MOST_POINTS) or 1]
    yield (
        [*path, "points"],
        rr.Points3D(
            np.stack([points[name] for name in "xyz"], axis=1),
            colors=_point_colors(points, frame.result.vocabulary),
            class_ids=points["label"].astype(np.uint16),
        ),
    )
    found = [
        (instance, position)
        for instance, position in zip(frame.instances, space.positions, strict=True)
        if isinstance(position, Position)
    ]
    instances = [instance for instance, _ in found]
    yield (
        [*path, "objects"],
        rr.Boxes3D(
            centers=_vectors(position.box_center for _, position in found),
            sizes=_vectors(position.box_size for _, position in found),
            labels=_texts(instances),
            class_ids=_classes(instances),
        ),
    )
    yield (
        [*path, "positions"],
        rr.Points3D(
            _vectors(position.point for _, position in found), radii=POSITION_RADIUS, class_ids=_classes(instances)
        ),
    )


def no_space_entities(path: list[str]) -> Iterator[Entity]:
    """Yield what takes the last frame's things out of space: a viewer shows the newest it has.

    Args:
        path: what `space_path` returned for that frame.
    """
    for name in IN_SPACE:
        yield [*path, name], rr.Clear(recursive=False)


def _texts(instances: Sequence[Instance]) -> list[str]:
    return [f"{instance.label} {instance.score:.2f}" for instance in instances]


def _classes(instances: Sequence[Instance]) -> np.ndarray:
    return np.array([instance.label_id for instance in instances], np.uint16)


def _vectors(vectors: Iterator[Sequence[float]]) -> np.ndarray:
    return np.array(list(vectors), np.float32).reshape(-1, 3)


def _point_colors(points: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return the colour of each point's label; points of the background keep their own."""
    table = np.zeros((max(vocabulary.ids) + 1, 3), np.uint8)
    table[list(vocabulary.ids)] = colors_of(vocabulary)
    own = points["rgb"][:, None] >> np.array([16, 8, 0], np.uint32) & 255
    return np.where(points["label"][:, None] > 0, table[points["label"]], own.astype(np.uint8))
