"""The demo's own node: it publishes vocabularies, subscribes to every output, and keeps what the report needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from synseg_ros.demo.positions import PositionErrors
from synseg_ros.demo.truth import IntersectionOverUnion, TruthSegments
from synseg_ros.interfaces.image_encodings import check_image_message, image_to_array, image_to_rgb
from synseg_ros.msg import ClassMasks, FrameInfo, Vocabulary, VocabularyStatus
from synseg_ros.qos import EVERY_MESSAGE, EVERY_MESSAGE_SO_FAR, LATCHED

HEARD = "synseg_demo/heard"  # where the listener tells the player which frames are done
IMAGE_WIDTH = 400
SHOWN = 0.02  # smallest share of an image at which a label counts as visible
OUTPUTS = 5
KEPT_IMAGES = 64
WAITING_FRAMES = 100  # what belongs to frames that the node skipped is forgotten after so many newer ones


@dataclass(frozen=True)
class KeptOverlay:
    """An overlay, and the labels that are visible in it.

    Attributes:
        image: (H, W, 3) uint8 RGB, made smaller.
        labels: Labels that cover at least the share SHOWN of the image: by the truth where it is known, so that the
            choice of overlays does not depend on the results.
    """

    image: np.ndarray
    labels: frozenset[str]


@dataclass
class Phase:
    """What arrives for one version of the vocabulary.

    Attributes:
        labels: Labels of the vocabulary.
        ids: Their numbers in label maps.
        stamps: Stamps of the masks, in nanoseconds.
        latencies: From a frame's stamp until its masks arrive, in milliseconds.
        arrivals: When masks arrived, in seconds of `time.monotonic`.
        images: Overlays, spread over the phase.
        accuracy: Intersections and unions with the truth.
        position_errors: Of objects in scenes, in metres.
    """

    labels: tuple[str, ...]
    ids: tuple[int, ...]
    stamps: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    images: list[KeptOverlay] = field(default_factory=list)
    accuracy: IntersectionOverUnion = field(default_factory=IntersectionOverUnion)
    position_errors: list[float] = field(default_factory=list)
    _overlays: int = 0
    _stride: int = 1

    def add_image(self, image: KeptOverlay) -> None:
        """Keep an overlay; in a long phase, only every second, fourth or eighth one, to limit the memory.

        Args:
            image: The overlay.
        """
        if self._overlays % self._stride == 0:
            self.images.append(image)
        self._overlays += 1
        if len(self.images) > KEPT_IMAGES:
            self.images, self._stride = self.images[::2], self._stride * 2


class Listener(Node):
    """Subscribe to all outputs of the node, and to the player's truth.

    Args:
        topic: Topic of the frames.
        camera: Name of the camera in the node.

    Attributes:
        phases: What arrived, by version of the vocabulary.
        status: The newest status of the vocabulary.
        segments: What the truth's indices mean; None where no truth is known.
        sent: Stamps of the frames, in nanoseconds, as camera_info has them.
        faults: Contradictions noticed so far, in words.
        closed: Set it when no more masks are to be counted.
        compared: Whether a label map was compared with the truth of its frame.
        node_counts: The node's own counts, from the newest diagnostics.
    """

    def __init__(self, topic: str, camera: str) -> None:
        super().__init__("synseg_demo")
        self.phases: dict[int, Phase] = {}
        self.status: VocabularyStatus | None = None
        self.segments: TruthSegments | None = None
        self.sent: list[int] = []
        self.faults: list[str] = []
        self.closed = False
        self.compared = False
        self.node_counts: dict[str, str] = {}
        self._announced: dict[int, tuple[str, ...]] = {}
        self._versions: dict[int, int] = {}  # by stamp, as the infos have it
        self._truth: dict[int, np.ndarray] = {}
        self._label_maps: dict[int, np.ndarray] = {}
        self._overlays: dict[int, np.ndarray] = {}
        self._shown: dict[int, frozenset[str]] = {}
        self._arrived: dict[int, set[str]] = {}  # which outputs of a frame have arrived, by stamp
        self._answers = self.create_publisher(FrameInfo, HEARD, EVERY_MESSAGE)
        self._vocabulary = self.create_publisher(Vocabulary, "synseg/vocab", LATCHED)
        base, out = topic.rpartition("/")[0], f"synseg/{camera}"
        for kind, name, take, qos in (
            (VocabularyStatus, "synseg/active_vocab", self._take_status, LATCHED),
            (FrameInfo, f"{out}/info", self._answered("info", self._take_info), EVERY_MESSAGE),
            (ClassMasks, f"{out}/masks", self._answered("masks", self._take_masks), EVERY_MESSAGE),
            (Image, f"{out}/label_map", self._answered("label_map", self._take_label_map), EVERY_MESSAGE),
            (Image, f"{out}/confidence", self._answered("confidence", self._take_confidence), EVERY_MESSAGE),
            (Image, f"{out}/overlay", self._answered("overlay", self._take_overlay), EVERY_MESSAGE),
            (CameraInfo, f"{base}/camera_info", self._take_camera_info, EVERY_MESSAGE_SO_FAR),
            (Image, f"{base}/truth/index_map", self._take_truth, EVERY_MESSAGE),
            (String, f"{base}/truth/segments", self._take_segments, LATCHED),
            (DiagnosticArray, "/diagnostics", self._take_diagnostics, EVERY_MESSAGE),
        ):
            self.create_subscription(kind, name, take, qos)
        self._positions = PositionErrors(self, f"{out}/objects", f"{base}/truth/objects", self._take_position_errors)

    def ask_for(self, labels: Sequence[str]) -> None:
        """Publish a vocabulary.

        Args:
            labels: Its labels.
        """
        self._vocabulary.publish(Vocabulary(labels=list(labels)))

    def complete(self) -> bool:
        """Return True when camera_info has arrived for every frame with masks."""
        return {stamp for phase in self.phases.values() for stamp in phase.stamps} <= set(self.sent)

    def contradictions(self) -> list[str]:
        """List the contradictions between all that arrived, in words."""
        faults, sent = list(self.faults), set(self.sent)
        for version, phase in self.phases.items():
            announced = self._announced.get(version)
            if phase.labels != announced:
                faults.append(f"version {version} was announced with {announced}, but used with {phase.labels}")
            foreign = sum(stamp not in sent for stamp in phase.stamps)
            if foreign:
                faults.append(f"{foreign} masks of version {version} have a stamp that no frame had")
            if not phase.images:
                faults.append(f"no overlay of version {version} arrived")
            crossed = sum(self._versions.get(stamp, version) != version for stamp in phase.stamps)
            if crossed:
                faults.append(f"{crossed} masks of version {version} have an info of another version")
        return faults

    def _answered(self, output: str, take: Callable[[Any], None]) -> Callable[[Any], None]:
        """Take a message; once all outputs of its frame are here, answer a player that waits for it.

        The node itself cannot answer: it may receive frames before this listener receives all of its outputs.
        """

        def take_and_answer(message: Any) -> None:
            take(message)
            arrived = self._arrived.setdefault(_stamp(message.header), set())
            arrived.add(output)
            if len(arrived) == OUTPUTS and self._answers.get_subscription_count():
                self._answers.publish(FrameInfo(header=message.header))
            if len(self._arrived) > WAITING_FRAMES:
                del self._arrived[next(iter(self._arrived))]

        return take_and_answer

    def _take_status(self, message: VocabularyStatus) -> None:
        self.status = message
        if message.version:
            self._announced[message.version] = tuple(message.labels)

    def _take_camera_info(self, message: CameraInfo) -> None:
        self.sent.append(_stamp(message.header))

    def _take_masks(self, message: ClassMasks) -> None:
        now, stamp = time.time_ns(), _stamp(message.header)
        if self.closed:
            return
        phase = self._phase(message)
        if stamp in phase.stamps[-10:]:
            return  # a frame that the player had to publish twice
        phase.stamps.append(stamp)
        phase.latencies.append((now - stamp) / 1e6)
        phase.arrivals.append(time.monotonic())
        for mask in message.masks:
            if (mask.label, mask.id) not in zip(phase.labels, phase.ids, strict=True):
                self.faults.append(f"mask {mask.id} is called {mask.label!r} in a vocabulary {message.labels}")

    def _take_info(self, message: FrameInfo) -> None:
        self._phase(message)
        self._versions[_stamp(message.header)] = message.vocabulary_version
        self._match(_stamp(message.header))

    def _take_label_map(self, message: Image) -> None:
        self._keep(self._label_maps, message, image_to_array(message))

    def _take_truth(self, message: Image) -> None:
        self._keep(self._truth, message, image_to_array(message))

    def _take_overlay(self, message: Image) -> None:
        height = round(message.height * IMAGE_WIDTH / message.width)
        small = cv2.resize(image_to_rgb(message), (IMAGE_WIDTH, height), interpolation=cv2.INTER_AREA)
        self._keep(self._overlays, message, small)

    def _take_position_errors(self, stamp: int, errors: list[float]) -> None:
        phase = self.phases.get(self._versions.get(stamp, 0))
        if phase is not None and not self.closed:
            phase.position_errors += errors

    def _phase(self, message: ClassMasks | FrameInfo) -> Phase:
        version, meaning = message.vocabulary_version, (tuple(message.labels), tuple(message.ids))
        phase = self.phases.setdefault(version, Phase(*meaning))
        if meaning != (phase.labels, phase.ids):
            self.faults.append(f"version {version} came with {meaning} and {(phase.labels, phase.ids)}")
        return phase

    def _keep(self, store: dict[int, np.ndarray], message: Image, pixels: np.ndarray) -> None:
        _remember(store, _stamp(message.header), pixels)
        self._match(_stamp(message.header))

    def _match(self, stamp: int) -> None:
        """Use what has arrived for a frame as soon as its info tells the version of the vocabulary."""
        if stamp not in self._versions:
            return
        phase = self.phases[self._versions[stamp]]
        if stamp in self._label_maps and (stamp in self._truth or self.segments is None):
            label_map = self._label_maps.pop(stamp)
            unknown = sorted(set(np.unique(label_map).tolist()) - {0, *phase.ids})
            if unknown:
                self.faults.append(f"a label map has the values {unknown} where the ids are {list(phase.ids)}")
            if self.segments is None:
                masks = [label_map == number for number in phase.ids]
            else:
                truth = self._truth.pop(stamp)
                self.compared = True
                phase.accuracy.add(label_map, phase.labels, phase.ids, truth, self.segments)
                masks = [self.segments.mask(label, truth) for label in phase.labels]
            seen = (label for label, mask in zip(phase.labels, masks, strict=True) if mask.mean() >= SHOWN)
            _remember(self._shown, stamp, frozenset(seen))
        if stamp in self._overlays and stamp in self._shown:
            phase.add_image(KeptOverlay(self._overlays.pop(stamp), self._shown.pop(stamp)))

    def _take_confidence(self, message: Image) -> None:
        check_image_message(message)

    def _take_segments(self, message: String) -> None:
        self.segments = TruthSegments.from_json(message.data)

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith("synseg:"):
                self.node_counts = {pair.key: pair.value for pair in status.values}


def _remember(store: dict[int, Any], stamp: int, value: Any) -> None:
    store[stamp] = value
    if len(store) > WAITING_FRAMES:
        del store[next(iter(store))]


def _stamp(header: Header) -> int:
    return header.stamp.sec * 10**9 + header.stamp.nanosec
