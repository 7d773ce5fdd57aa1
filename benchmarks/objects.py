"""Time what detections, objects and points add to a frame of the node: `python -m benchmarks.objects`.

The frame is that of `benchmarks.instances`: 30 objects of 20 labels at 640x480, with depth in millimetres. Each output
is made and published to a subscriber, as the node's worker does it. What outputs share counts for the first of them:
finding instances for detections, reading depth for objects. Times are medians of runs that take turns. Beside the wall
time stands the thread's own time, which leaves out what other processes took on a busy machine, and its ratio to that
of the label map, an output without objects. Where vision_msgs is not installed, its messages are built for the
measurement. Where they cannot be built either, `points` is measured alone.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import cv2
import jsonargparse
import numpy as np

from benchmarks.instances import InstancesConfig, draw
from benchmarks.measuring import describe_machine, write_results
from synseg_ros.demo.processes import private_domain
from synseg_ros.interfaces.optional_types import optional_type
from tests.extra_interfaces import BuildError, provide

TARGETS = {"detections": 3.0, "objects": 5.0, "points": 6.0}  # milliseconds

VISION = {"detections": "vision_msgs/msg/Detection2DArray", "objects": "vision_msgs/msg/Detection3DArray"}


@dataclass
class ObjectsConfig:
    """Settings of the measurement.

    Args:
        frame: what is drawn.
        repeats: of every output.
        output: JSON file.
    """

    frame: InstancesConfig = field(default_factory=InstancesConfig)
    repeats: int = 200
    output: str = "benchmarks/results/objects.json"


@dataclass
class DrawnResult:
    """What the outputs ask of a Result."""

    label_map: np.ndarray
    confidence: np.ndarray
    labels: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return self.label_map.shape

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.labels) + 1))

    @property
    def vocabulary(self) -> DrawnResult:
        return self


class Rig:
    """One camera's outputs, each with a subscriber, and frames for them."""

    def __init__(self, config: ObjectsConfig) -> None:
        import rclpy
        from sensor_msgs.msg import CameraInfo, Image, PointCloud2
        from std_msgs.msg import Header

        from synseg_ros.interfaces.frame_outputs import FRAME_OUTPUTS
        from synseg_ros.node.camera_outputs import OutputTopic
        from synseg_ros.node.depth_input import DepthInput
        from synseg_ros.node.transform_source import TransformSource
        from synseg_ros.parameters.tables import NodeSettings
        from synseg_ros.qos import OUTPUT
        from synseg_ros.ros_messages import OBJECT_MAKER, sequence
        from synseg_ros.space.depth_view import DepthTopics
        from synseg_ros.space.object_finder import ObjectFinder
        from synseg_ros.space.object_outputs import object_outputs

        rclpy.init(args=[])
        self._nodes = node, listener = rclpy.create_node("outputs"), rclpy.create_node("listener")
        settings, transforms = NodeSettings(), TransformSource(node)
        self.depth = DepthInput(node, DepthTopics("depth", "info", "info"), lambda: settings, transforms)
        self.finder = ObjectFinder(lambda: settings, self.depth.of_frames)
        label_map, confidence, self.image, metres = draw(config.frame)
        names = tuple(f"label {index}" for index in range(config.frame.labels))
        self.result = DrawnResult(label_map, confidence, names)
        height, width = label_map.shape
        k = [500.0, 0.0, width / 2, 0.0, 500.0, height / 2, 0.0, 0.0, 1.0]
        self.depth.messages.infos.add(CameraInfo(header=Header(frame_id="lens"), width=width, height=height, k=k))
        millimetres = (np.nan_to_num(metres) * 1000).astype(np.uint16)
        self.measured = Image(height=height, width=width, encoding="16UC1", step=2 * width)
        self.measured.data = sequence(millimetres.reshape(-1).view(np.uint8))
        kinds = {"label_map": Image, "points": PointCloud2}
        kinds |= {name: kind for name, type_ in VISION.items() if (kind := optional_type(type_))}
        outputs = {output.name: output for output in (*FRAME_OUTPUTS, *object_outputs(self.finder, OBJECT_MAKER))}
        self.topics = {
            name: OutputTopic(node, "synseg/camera", kind, outputs[name], lambda: settings)
            for name, kind in kinds.items()
        }
        for name, kind in kinds.items():
            listener.create_subscription(kind, f"synseg/camera/{name}", lambda _: None, OUTPUT)
        deadline = time.monotonic() + 30
        while not all(topic.wanted() for topic in self.topics.values()) and time.monotonic() < deadline:
            rclpy.spin_once(listener, timeout_sec=0.05)
        self._stamps = count(1)

    def frames(self) -> Iterator[object]:
        """Yield new frames, with their depth."""
        from builtin_interfaces.msg import Time
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header

        from synseg_ros.node.frames import Frame, SegmentedFrame, Timing

        for number in self._stamps:
            header = Header(stamp=Time(sec=1000 + number // 30, nanosec=number % 30 * 33_000_000), frame_id="lens")
            self.measured.header = header
            self.depth.messages.images.add(self.measured)
            frame = Frame("camera", Image(header=header), 0.0)
            yield SegmentedFrame(frame, self.image, self.result, 1, Timing(0.0, 0.0, 0.0))


def find_messages() -> str:
    """Make vision_msgs importable, and tell how: "installed", "built" or, where it cannot be built, "missing"."""
    if all(map(optional_type, VISION.values())):
        return "installed"
    print("vision_msgs is not installed: building its messages, which takes about two minutes the first time")
    try:
        provide(optimise=True)
    except (BuildError, OSError) as error:
        print(f"{error}\ndetections and objects are not measured: install ros-$ROS_DISTRO-vision-msgs")
        return "missing"
    return "built"


def main(config: ObjectsConfig) -> dict:
    """Time every output and write the JSON and the table."""
    cv2.setNumThreads(1)
    os.environ.update(private_domain())
    messages = find_messages()
    rig = Rig(config)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("label_map", *TARGETS) if name in rig.topics}
    for turn, frame in zip(range(config.repeats + 1), rig.frames(), strict=False):
        for name, taken in times.items():
            spent = _time(partial(rig.topics[name].publish, frame))
            if turn:
                taken.append(spent)
    measured = {}
    for name, taken in times.items():
        wall, own = (statistics.median(column) * 1e3 for column in zip(*taken, strict=True))
        measured[name] = {"wall_ms": round(wall, 2), "thread_ms": round(own, 2)}
    reference = measured["label_map"]["thread_ms"]
    for name, row in measured.items():
        row["ratio"] = round(row["thread_ms"] / reference, 1)
        row["target_ms"] = TARGETS.get(name)
    result = {
        "machine": describe_machine("cpu") | {"threads": "1"},
        "settings": {name: getattr(config.frame, name) for name in ("width", "height", "labels", "objects")}
        | {"repeats": config.repeats, "vision_msgs": messages},
        "outputs": measured,
    }
    table = [
        "| output | ms, median | thread's own ms, median | ratio to label_map | target, ms |",
        "|---|---|---|---|---|",
    ]
    table += [
        f"| {name} | {row['wall_ms']:.2f} | {row['thread_ms']:.2f} | {row['ratio']} | {row['target_ms'] or ''} |"
        for name, row in measured.items()
    ]
    write_results(config.output, result, table)
    return result


def _time(run: Callable[[], object]) -> tuple[float, float]:
    """Return the wall time and the thread's own time of a call, in seconds."""
    wall, own = time.perf_counter(), time.thread_time()
    run()
    return time.perf_counter() - wall, time.thread_time() - own


if __name__ == "__main__":
    main(jsonargparse.auto_cli(ObjectsConfig, as_positional=False))
