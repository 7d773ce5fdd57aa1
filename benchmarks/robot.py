"""Cameras, a listener and a node under test in a ROS domain of their own, for the node's benchmarks."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from synseg_ros.msg import ClassMasks, FrameInfo, Vocabulary, VocabularyStatus

from synseg_model.memory import keep_freed_memory
from synseg_ros.demo.processes import Child, private_domain
from synseg_ros.parameters.options import ros_arguments
from synseg_ros.qos import EVERY_MESSAGE, LATCHED
from synseg_ros.ros_messages import image_from_array

PATIENCE = 120.0
STAMP, STAMP_AT = struct.Struct("<iI"), 4  # of a header, behind four bytes that say how the message is serialised


class Robot:
    """Publish frames of noise from several cameras and note when what comes back arrives; for use in a `with`.

    The answers are masks, or for cameras that are echoed the same images.

    Frames and answers are serialised messages: turning them into Python objects would be work of this process, which
    cameras and consumers in C++ do not have.
    sent and arrived: monotonic seconds by camera and stamp, inference: milliseconds, as the node says, where asked for.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        width: int,
        height: int,
        rate: float,
        echoed: Sequence[str] = (),
        infos: bool = False,
    ) -> None:
        keep_freed_memory()
        self.segmented, self.echoed = tuple(cameras), tuple(echoed)
        self.cameras, self.rate, self._infos = (*cameras, *echoed), rate, infos
        self.sent: dict[str, dict[int, float]] = {camera: {} for camera in self.cameras}
        self.arrived: dict[str, dict[int, float]] = {camera: {} for camera in self.cameras}
        self.inference: dict[str, dict[int, float]] = {camera: {} for camera in self.cameras}
        self.status: VocabularyStatus | None = None
        self._pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        self._stopping = threading.Event()
        self._children: list[Child] = []

    def __enter__(self) -> Robot:
        os.environ.update(private_domain())
        rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self._node = node = rclpy.create_node("robot")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._speaker = node.create_publisher(Vocabulary, "synseg/vocab", LATCHED)
        node.create_subscription(VocabularyStatus, "synseg/active_vocab", self._take_status, LATCHED)
        self._publishers = {}
        for camera in self.cameras:
            self._publishers[camera] = node.create_publisher(Image, f"/{camera}/image_raw", qos_profile_sensor_data)
            kind, output = (Image, "echo") if camera in self.echoed else (ClassMasks, "masks")
            node.create_subscription(
                kind, f"synseg/{camera}/{output}", self._noting(self.arrived[camera]), EVERY_MESSAGE, raw=True
            )
            if self._infos:
                node.create_subscription(
                    FrameInfo, f"synseg/{camera}/info", self._noting_inference(self.inference[camera]), EVERY_MESSAGE
                )
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for child in self._children:
            child.stop()
        self._executor.shutdown()
        rclpy.try_shutdown()

    def start(self, module: str, **parameters: object) -> Child:
        """Start a module as a process with ROS parameters."""
        self._children.append(Child(module, module, ros_arguments(parameters), os.environ))
        return self._children[-1]

    def start_node(self, **parameters: object) -> Child:
        """Start the node under test for all cameras that are not echoed."""
        topics = [f"/{camera}/image_raw" for camera in self.segmented]
        return self.start("synseg_ros.node", camera_topics=topics, camera_names=list(self.segmented), **parameters)

    def start_echo_node(self, serialized: bool = False) -> Child:
        """Start the node that publishes the frames of the cameras that are echoed again."""
        return self.start("benchmarks.echo_node", cameras=list(self.echoed), serialized=serialized)

    def play(self) -> None:
        """Let the cameras play, each at its rate and shifted against the others, until the end."""
        for index, camera in enumerate(self.cameras):
            shift = index / len(self.cameras) / self.rate
            threading.Thread(target=self._play, args=(camera, shift), daemon=True).start()

    def ask(self, labels: Sequence[str]) -> None:
        """Publish a vocabulary."""
        self._speaker.publish(Vocabulary(labels=list(labels)))

    def spin_until(self, condition: Callable[[], bool], what: str) -> None:
        """Take messages until the condition holds; raise RuntimeError when it does not in time."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self._executor.spin_once(timeout_sec=0.05)
            for child in self._children:
                if child.returncode is not None:
                    raise child.died()
            if time.monotonic() > deadline:
                last = "\n".join(child.tail() for child in self._children)
                raise RuntimeError(f"waited {PATIENCE:.0f} s in vain for {what}; the processes said last:\n{last}")

    def spin_for(self, seconds: float) -> None:
        """Take messages for so many seconds."""
        until = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() > until, "the end")

    def spin_until_all_cameras_are_answered(self) -> None:
        """Take messages until a frame of every camera has come back."""
        self.spin_until(lambda: all(self.arrived.values()), "a first answer for every camera")

    def forget(self) -> None:
        """Forget what was noted so far, which was to warm up."""
        for notes in (self.sent, self.arrived, self.inference):
            for by_stamp in notes.values():
                by_stamp.clear()

    def latencies(self, camera: str) -> np.ndarray:
        """Return milliseconds from publishing a frame to the arrival of its answer."""
        sent, arrived = self.sent[camera], self.arrived[camera]
        return np.array([1e3 * (arrived[stamp] - sent[stamp]) for stamp in arrived if stamp in sent])

    def ages(self, camera: str) -> np.ndarray:
        """Return milliseconds like latencies, without the time of the inference itself."""
        sent, arrived, inference = self.sent[camera], self.arrived[camera], self.inference[camera]
        both = [stamp for stamp in arrived if stamp in sent and stamp in inference]
        return np.array([1e3 * (arrived[stamp] - sent[stamp]) - inference[stamp] for stamp in both])

    def gaps(self, camera: str, begin: float = 0.0) -> np.ndarray:
        """Return milliseconds between answers that arrived after begin (monotonic seconds)."""
        return 1e3 * np.diff([moment for moment in self.arrived[camera].values() if moment >= begin])

    def _play(self, camera: str, shift: float) -> None:
        message = bytearray(serialize_message(image_from_array(self._pixels, "rgb8", Header(frame_id=camera))))
        period = 1 / self.rate
        due = time.monotonic() + shift
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            now = self._node.get_clock().now().nanoseconds
            STAMP.pack_into(message, STAMP_AT, *divmod(now, 10**9))
            serialized = bytes(message)
            self.sent[camera][now] = time.monotonic()
            self._publishers[camera].publish(serialized)
            due = max(due, time.monotonic() - period) + period

    def _noting(self, arrived: dict[int, float]) -> Callable[[bytes], None]:
        def note(message: bytes) -> None:
            seconds, nanoseconds = STAMP.unpack_from(message, STAMP_AT)
            arrived.setdefault(seconds * 10**9 + nanoseconds, time.monotonic())

        return note

    def _noting_inference(self, inference: dict[int, float]) -> Callable[[FrameInfo], None]:
        def note(message: FrameInfo) -> None:
            stamp = message.header.stamp
            inference.setdefault(stamp.sec * 10**9 + stamp.nanosec, message.inference_ms)

        return note

    def _take_status(self, message: VocabularyStatus) -> None:
        self.status = message


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Return count, p50 and p99."""
    p50, p99 = np.percentile(values, (50, 99)) if len(values) else (float("nan"), float("nan"))
    return {"count": len(values), "p50": round(float(p50), 2), "p99": round(float(p99), 2)}
