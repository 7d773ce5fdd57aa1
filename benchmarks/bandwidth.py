"""Measure what each output topic of the node sends: `python -m benchmarks.bandwidth`.

The frames are generated scenes and the photographs that ship with the player, and the masks are those that a model
finds in them. Sizes are those of the whole serialised messages (CDR), the bytes that DDS carries for one subscriber
without its own overhead of a few percent. A scene also has depth, so that objects and points have positions. Times are
of one thread: to encode the masks of a frame, as the node does, and to read them all, as a client does.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import jsonargparse
import numpy as np

from benchmarks.measuring import describe_machine, interleave, write_results
from synseg_model import Segmenter
from synseg_model.instances import Intrinsics
from synseg_model.io.drawing import overlay
from synseg_model.result import Result
from synseg_ros.bags.message_types import MessageTypes
from synseg_ros.interfaces.compressed_images import jpeg_fields
from synseg_ros.interfaces.frame_outputs import FRAME_OUTPUTS, SegmentedImage
from synseg_ros.interfaces.mask_encodings import read_mask
from synseg_ros.interfaces.mask_kinds import MASK_ENCODINGS, MONO8
from synseg_ros.player.photographs.tour import BACKGROUND, UNLABELLED, Tour
from synseg_ros.space.depth_view import DepthView
from synseg_ros.space.object_finder import ObjectFinder
from synseg_ros.space.object_outputs import object_outputs
from training.scenes.scenes import make_scene

FRAMES_PER_SECOND = 30
NO_DEPTH = "a photograph has no depth"


@dataclass
class BandwidthConfig:
    """Settings of the measurement.

    Args:
        scenes: number of generated scenes. views: of each photograph, the widest and closer ones in turns.
        width: of the frames, in pixels. height: the same.
        model: finds the masks in photographs. scene_model: finds them in scenes.
        repeats: of every time on every frame.
        output: JSON file.
    """

    scenes: int = 24
    views: int = 4
    width: int = 640
    height: int = 480
    model: str = "synseg-everyday"
    scene_model: str = "synseg-tiny"
    repeats: int = 5
    output: str = "benchmarks/results/bandwidth.json"


@dataclass(frozen=True)
class Shot:
    """A frame with the labels to look for; depth (H,W) float32 in metres and its camera where they are known."""

    image: np.ndarray
    labels: tuple[str, ...]
    depth: np.ndarray | None = None
    intrinsics: Intrinsics | None = None


@dataclass
class Surroundings:
    """Tell the depth of one shot at a time; the settings of positions are their defaults."""

    shot: Shot | None = None
    target_frame: str = ""
    points_background: bool = False

    def view(self, *_: object) -> DepthView | str:
        return NO_DEPTH if self.shot.depth is None else DepthView(self.shot.depth, self.shot.intrinsics)


def scenes(config: BandwidthConfig) -> Iterator[Shot]:
    """Draw generated scenes, each with all of its labels: stuff, nouns, and nouns with their colours."""
    for seed in range(config.scenes):
        scene = make_scene(seed, (config.height, config.width))
        yield Shot(scene.image, scene.labels, scene.depth, scene.intrinsics)


def photographs(config: BandwidthConfig) -> Iterator[Shot]:
    """Draw views of each photograph with the labels that are drawn in any of them."""
    tour = Tour(config.width, config.height)
    labels = tuple(name for name in tour.names if name not in (UNLABELLED, BACKGROUND))
    each = len(tour) // len(tour.photographs)
    for number in range(len(tour.photographs)):
        for step in np.linspace(0, each - 1, config.views).round().astype(int):
            yield Shot(tour.frame(number * each + int(step))[0], labels)


class Meter:
    """Make the messages of frames and weigh them."""

    def __init__(self) -> None:
        self._types, self._surroundings = MessageTypes(), Surroundings()
        time = self._types.type("builtin_interfaces/msg/Time")(sec=1_700_000_000, nanosec=0)
        self._header = self._types.type("std_msgs/msg/Header")(stamp=time, frame_id="camera_color_optical_frame")

    def messages(self, shot: Shot, result: Result) -> Iterator[tuple[str, Any]]:
        """Yield the messages of a frame by topic, masks in every encoding."""
        self._surroundings.shot = shot
        finder = ObjectFinder(lambda: self._surroundings, self._surroundings)
        segmented = SegmentedImage(shot.image, result, self._header, 1, 20.0)
        for output in (*FRAME_OUTPUTS, *object_outputs(finder, self._types.object_maker)):
            for encoding in MASK_ENCODINGS if output.name == "masks" else (MONO8,):
                name = f"masks, {encoding}" if output.name == "masks" else output.name
                yield name, output.make(self._types.maker.with_masks(encoding), segmented)
        single = np.zeros(result.shape, np.uint8)
        yield "classes/<label>, one label", self._types.maker.image(single, "mono8", self._header)

    def bytes(self, shot: Shot, result: Result) -> dict[str, int]:
        """Weigh the messages of a frame, by topic; an output without a message for the frame is left out."""
        made = self.messages(shot, result)
        return {name: len(self._types.encode(message)) for name, message in made if message is not None}

    def seconds(self, shot: Shot, result: Result, repeats: int) -> dict[str, float]:
        """Time the encoding and the reading of all masks of a frame, and the encoding of its JPEG."""
        cutouts = list(result.cutouts())
        runs = {"encode, overlay/compressed": partial(jpeg_fields, overlay(shot.image, result))}
        for encoding in MASK_ENCODINGS:
            maker = self._types.maker.with_masks(encoding)
            masks = [maker.class_mask(result, cutout, self._header) for cutout in cutouts]
            runs[f"encode, {encoding}"] = lambda maker=maker: [
                maker.mask_fields(cutout.mask, self._header) for cutout in cutouts
            ]
            runs[f"read, {encoding}"] = lambda masks=masks: [read_mask(mask) for mask in masks]
        return interleave(runs, repeats)


def measure(meter: Meter, shots: Iterator[Shot], model: str, repeats: int) -> dict:
    """Measure the topics on some frames."""
    segmenter = Segmenter.load(model)
    sizes, times, present, vocabulary = defaultdict(list), defaultdict(list), [], []
    for shot in shots:
        segmenter.set_vocabulary(shot.labels)
        result = segmenter.segment(shot.image)
        for name, size in meter.bytes(shot, result).items():
            sizes[name].append(size)
        for name, seconds in meter.seconds(shot, result, repeats).items():
            times[name].append(seconds)
        present.append(len(result.present))
        vocabulary.append(len(shot.labels))
    totals = {encoding: sum(sizes[f"masks, {encoding}"]) for encoding in MASK_ENCODINGS}
    bytes_per_frame = {name: round(statistics.median(found)) for name, found in sizes.items()}
    return {
        "model": model,
        "frames": len(present),
        "labels": statistics.median(vocabulary),
        "masks_per_frame": statistics.median(present),
        "bytes_per_frame": bytes_per_frame,
        "bytes_per_second": {name: FRAMES_PER_SECOND * size for name, size in bytes_per_frame.items()},
        "times_smaller_than_mono8": {
            encoding: round(totals[MONO8] / total, 1) for encoding, total in totals.items() if encoding != MONO8
        },
        "ms_per_frame": {name: round(1e3 * statistics.median(found), 3) for name, found in times.items()},
    }


def main(config: BandwidthConfig) -> dict:
    """Measure both kinds of frames and write the JSON and the table."""
    cv2.setNumThreads(1)
    meter = Meter()
    sources = {
        "scenes": measure(meter, scenes(config), config.scene_model, config.repeats),
        "photographs": measure(meter, photographs(config), config.model, config.repeats),
    }
    result = {
        "machine": describe_machine("cpu") | {"threads": "1"},
        "settings": {name: getattr(config, name) for name in ("width", "height", "repeats")}
        | {"frames_per_second": FRAMES_PER_SECOND},
        "sources": sources,
    }
    table = ["| topic | " + " | ".join(f"{name}: bytes per frame | MB/s" for name in sources) + " |"]
    table += ["|---|" + "---|---|" * len(sources)]
    for topic in sources["scenes"]["bytes_per_frame"]:
        sizes = [source["bytes_per_frame"].get(topic) for source in sources.values()]
        cells = [f"{size:,} | {FRAMES_PER_SECOND * size / 1e6:.3g}" if size else "- | -" for size in sizes]
        table.append(f"| {topic} | {' | '.join(cells)} |")
    write_results(config.output, result, table)
    return result


if __name__ == "__main__":
    main(jsonargparse.auto_cli(BandwidthConfig, as_positional=False))
