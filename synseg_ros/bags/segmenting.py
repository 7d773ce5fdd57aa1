"""The work of `synseg bag`: segment a recording into a new one."""

from __future__ import annotations

import logging
import time

from rosbags.interfaces import Connection

from synseg_model.cli.progress import progress_bar
from synseg_model.segmenter import Segmenter
from synseg_model.viewer.viewer import Viewer
from synseg_ros.bags.cameras import RecordedCamera
from synseg_ros.bags.depth import RecordedDepth
from synseg_ros.bags.message_types import VOCABULARY, MessageTypes
from synseg_ros.bags.reading import Recording
from synseg_ros.bags.writing import NewBag, qos
from synseg_ros.interfaces.frame_outputs import FRAME_OUTPUTS, FrameOutput, SegmentedImage
from synseg_ros.interfaces.mask_kinds import MONO8
from synseg_ros.space.object_finder import ObjectFinder
from synseg_ros.space.object_outputs import OBJECT_OUTPUTS, object_outputs
from synseg_ros.space.viewed_frame import view_frame

logger = logging.getLogger(__name__)

VOCABULARY_TOPIC, STATUS_TOPIC = "/synseg/vocab", "/synseg/active_vocab"
OUTPUTS = (*(output.name for output in FRAME_OUTPUTS), *OBJECT_OUTPUTS)


class BagJob:
    """Segment the cameras of a recording into a new bag: one run of `synseg bag`.

    Args:
        recording: What is read.
        cameras: The cameras to segment.
        segmenter: Segments the frames, with its vocabulary at the start.
        types: The message types.
        bag: Where the outputs go.
        depth: What the recording says of depth.
        mask_encoding: How masks are encoded, one of MASK_ENCODINGS.
        viewer: Shows the frames in Rerun, too; None: they are not shown.
    """

    def __init__(
        self,
        recording: Recording,
        cameras: list[RecordedCamera],
        segmenter: Segmenter,
        types: MessageTypes,
        bag: NewBag,
        depth: RecordedDepth,
        mask_encoding: str = MONO8,
        viewer: Viewer | None = None,
    ) -> None:
        self._viewer = viewer
        self._viewed = {camera.topic: depth.finder(camera.name) for camera in cameras} if viewer else {}
        self._recording, self._segmenter, self._types, self._bag = recording, segmenter, types, bag
        self._maker = types.maker.with_masks(mask_encoding)
        self._cameras, self._depth = {camera.topic: camera for camera in cameras}, depth
        self._finders: dict[str, ObjectFinder] = {}  # by the camera's topic
        self._outputs: dict[str, list[tuple[Connection, FrameOutput]]] = {}
        self._copies: dict[tuple[str, str], Connection] = {}
        self._left_out = 0
        self._version = 0

    def add_outputs(self, kinds: list[str]) -> None:
        """Add the vocabulary's topic, and topics for every camera.

        Args:
            kinds: Which of OUTPUTS.
        """
        self._status = self._bag.add_topic(STATUS_TOPIC, "synseg_ros/msg/VocabularyStatus", qos(1, latched=True))
        for camera in self._cameras.values():
            self._finders[camera.topic] = finder = self._depth.finder(camera.name)
            self._outputs[camera.topic] = [
                (self._bag.add_topic(f"/synseg/{camera.name}/{output.name}", output.type, qos(5)), output)
                for output in (*FRAME_OUTPUTS, *object_outputs(finder, self._types.object_maker))
                if output.name in kinds
            ]

    def add_copies(self) -> None:
        """Add the recording's own topics, except those that this run writes itself and those of unknown types."""
        written = {STATUS_TOPIC} | {topic.topic for outputs in self._outputs.values() for topic, _ in outputs}
        seen = set()
        for connection in self._recording.connections:
            key = (connection.topic, connection.msgtype)
            if key in seen or connection.topic in written:
                continue
            seen.add(key)
            try:
                described = self._types.describe_recorded(connection)
            except ValueError as error:
                self._left_out += 1
                logger.warning("%s is not copied: %s", connection.topic, error)
                continue
            self._copies[key] = self._bag.add_recorded_topic(*key, *described, connection.ext.offered_qos_profiles)

    def segment(self, every: int, follow: bool, threshold: float | None) -> None:
        """Segment frames of each camera, with a progress bar.

        Args:
            every: Segment every N-th frame.
            follow: Use vocabularies as they were recorded.
            threshold: Threshold for recorded vocabularies without thresholds; None for the model's own.

        Raises:
            ValueError: No frame could be segmented.
        """
        topics = {*self._cameras, *(topic for topic, _ in self._copies)} | ({VOCABULARY_TOPIC} if follow else set())
        topics |= self._depth.topics
        total = sum(-(-camera.frames // every) for camera in self._cameras.values())
        with progress_bar(None, total, unit="frame") as bar:
            for connection, timestamp, data in self._depth.ahead_of(self._recording.messages(topics)):
                if not self._version:
                    self._announce(timestamp)
                copy = self._copies.get((connection.topic, connection.msgtype))
                if copy is not None:
                    self._bag.write([(copy, bytes(data))], timestamp)
                camera = self._cameras.get(connection.topic)
                if camera is not None and camera.kind == connection.msgtype:
                    camera.seen += 1
                    if (camera.seen - 1) % every == 0:
                        self._segment(camera, timestamp, data)
                        bar.update()
                elif follow and (connection.topic, connection.msgtype) == (VOCABULARY_TOPIC, VOCABULARY):
                    self._follow(timestamp, data, threshold)
        if not any(camera.segmented for camera in self._cameras.values()):
            self._bag.discard()
            raise ValueError(f"not one frame of {self._recording.path} could be segmented, so nothing was written")

    def _segment(self, camera: RecordedCamera, timestamp: int, data: bytes) -> None:
        try:
            header, image = camera.read(data, self._types)
        except ValueError as error:
            camera.failed += 1
            if camera.failed == 1:
                logger.warning("skipped a frame of %s, more of them are only counted: %s", camera.topic, error)
            return
        start = time.perf_counter()
        result = self._segmenter.segment(image)
        milliseconds = 1000 * (time.perf_counter() - start)
        segmented = SegmentedImage(image, result, header, self._version, milliseconds)
        made = [(topic, output.make(self._maker, segmented)) for topic, output in self._outputs[camera.topic]]
        self._bag.write([(topic, message) for topic, message in made if message is not None], timestamp)
        if self._viewer:
            finder = self._viewed[camera.topic]
            self._viewer.show(view_frame(camera.name, camera.segmented, segmented, finder))
        camera.segmented += 1

    def _follow(self, timestamp: int, data: bytes, threshold: float | None) -> None:
        try:
            request = self._types.decode(data, VOCABULARY)
            thresholds = [float(value) for value in request.thresholds]
            if not thresholds and threshold is not None:
                thresholds = [threshold] * len(request.labels)
            before = self._segmenter.vocabulary
            now = self._segmenter.prepare_vocabulary(request.labels, thresholds).following(before)
            self._segmenter.use(now)
        except ValueError as error:
            logger.warning("refused a recorded vocabulary, version %d stays: %s", self._version, error)
            self._write_status(timestamp, str(error))
            return
        if now.same_as(before):
            self._write_status(timestamp)
        else:
            self._announce(timestamp)

    def _announce(self, timestamp: int) -> None:
        """Give the vocabulary in use the next version, and write its status."""
        self._version += 1
        self._write_status(timestamp)

    def _write_status(self, timestamp: int, refusal: str = "") -> None:
        seconds = min(timestamp // 10**9, 2**31 - 1)  # what a message can say, also where damage made up the time
        stamp = self._types.type("builtin_interfaces/msg/Time")(sec=seconds, nanosec=timestamp % 10**9)
        vocabulary = self._segmenter.vocabulary
        pedigree = self._segmenter.pedigree_of(vocabulary)
        status = self._types.maker.vocabulary_status(vocabulary, self._version, stamp, refusal, pedigree)
        self._bag.write([(self._status, status)], timestamp)

    @property
    def segmented(self) -> int:
        """Number of frames that were segmented."""
        return sum(camera.segmented for camera in self._cameras.values())

    @property
    def missing(self) -> str:
        """What of the recording is missing in the new bag, in words; "" where nothing is."""
        failed = sum(camera.failed for camera in self._cameras.values())
        parts = [f"{failed} frame{'s' * (failed != 1)} could not be read"] if failed else []
        if self._left_out:
            parts.append(f"{self._left_out} topics not copied")
        if self._recording.damaged:
            parts.append("the recording is damaged")
        return ", ".join(parts)

    def report(self) -> int:
        """Print what was done.

        Returns:
            1 if something of the recording is missing in the new bag, else 0.
        """
        cameras = self._cameras.values()
        width = max(len(camera.topic) for camera in cameras)
        for camera in cameras:
            print(f"{camera.topic:{width}} → /synseg/{camera.name}/: {_counted(camera.segmented, camera.failed)}")
            found = self._finders[camera.topic].statistics
            if found.objects:
                print(f"{camera.topic:{width}}   {found.known} of {found.objects} objects have a position")
            if found.newest_problem:
                logger.warning(
                    "frames of %s have no positions, the last one because: %s", camera.topic, found.newest_problem
                )
        parts = [_counted(self.segmented, sum(camera.failed for camera in cameras))]
        if self._version > 1:
            parts.append(f"{self._version} vocabularies")
        if self._left_out:
            parts.append(f"{self._left_out} topics not copied")
        if self._recording.damaged:
            parts.append("the recording is damaged")
        print(f"{', '.join(parts)} → {self._bag.path}")
        return 1 if self.missing else 0


def _counted(segmented: int, failed: int) -> str:
    text = f"{segmented} frame{'s' * (segmented != 1)} segmented"
    return f"{text}, {failed} could not be read" if failed else text
