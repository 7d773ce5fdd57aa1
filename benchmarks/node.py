"""Measure what the node adds to inference: `python -m benchmarks.node`.

All in one run, with real processes over the middleware in use:

* latency: from a camera's publishing to the masks' arrival, at 30 Hz with an engine that does nothing, less the time of
  bare `Segmenter` calls; and its ratio to the latency of a node that only decodes and publishes again, whose frames
  come between. Camera and listener deal in serialised messages, as those in C++ do.
* cameras: four of them, with the same engine; how even are their rates?
* age: four of them and an engine slower than they are; how old is a frame when its results come, inference apart?
* vocabulary: how long is the longest gap between frames while 50 unknown labels are taken over, with a real model?
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jsonargparse
import numpy as np

from benchmarks.robot import Robot, percentiles
from synseg_model import Segmenter

LABELS = ("red ball", "box", "grass", "sky")


@dataclass
class NodeBenchmarkConfig:
    """Settings of the measurement.

    Args:
        seconds: of each part. warmup: seconds before each that do not count.
        width: of the images. height: of the images. rate: of the cameras, frames per second.
        slow: milliseconds that the slow engine takes.
        model: for the change of the vocabulary. engine: for it. labels: how many unknown ones it has.
        rerun: the node's parameter of this name, for the latency.
        serialized_echo: whether the echo node does without message objects, see `benchmarks.echo_node`.
        parts: what to measure. output: JSON file.
    """

    seconds: float = 30.0
    warmup: float = 3.0
    width: int = 640
    height: int = 480
    rate: float = 30.0
    slow: float = 100.0
    model: str = "synseg-tiny"
    engine: str = "auto"
    labels: int = 50
    rerun: str = ""
    serialized_echo: bool = False
    parts: tuple[Literal["latency", "cameras", "age", "vocabulary"], ...] = ("latency", "cameras", "age", "vocabulary")
    output: str = "benchmarks/results/node.json"


def run(config: NodeBenchmarkConfig) -> dict:
    """Measure everything; times are in milliseconds."""
    return {
        "config": asdict(config),
        "machine": {
            "platform": platform.platform(),
            "cores": len(os.sched_getaffinity(0)),
            "load": [round(load, 2) for load in os.getloadavg()],
        },
        "middleware": os.environ.get("RMW_IMPLEMENTATION", "default"),
        **{part: PARTS[part](config) for part in config.parts},
    }


def bare_calls(config: NodeBenchmarkConfig) -> dict[str, float]:
    """Measure `Segmenter.segment` without ROS."""
    image = np.random.default_rng(0).integers(0, 256, (config.height, config.width, 3), np.uint8)
    segmenter = Segmenter.load(engine="null")
    segmenter.set_vocabulary(LABELS)
    times = []
    for _ in range(max(10, round(config.seconds * config.rate))):
        began = time.perf_counter()
        segmenter.segment(image)
        times.append(1e3 * (time.perf_counter() - began))
    return percentiles(np.array(times))


def latency(config: NodeBenchmarkConfig) -> dict:
    """Measure one camera's way through the node, and another one's through the echo node, in turns.

    Both nodes run at the same time. The frames of one camera come half a period after those of the other, so whatever
    else the machine does delays both alike.
    """
    bare = bare_calls(config)
    with Robot(["camera"], config.width, config.height, config.rate, echoed=["echoed"]) as robot:
        robot.start_echo_node(config.serialized_echo)
        robot.start_node(engine="null", labels=list(LABELS), rerun=config.rerun)
        _play(robot, config)
        node, echo = (percentiles(robot.latencies(camera)) for camera in ("camera", "echoed"))
    keys = ("p50", "p99")
    return {
        "bare calls": bare,
        "echo node": echo,
        "node": node,
        "node adds": {key: round(node[key] - bare[key], 2) for key in keys},
        "node to echo node": {key: round((node[key] - bare[key]) / echo[key], 3) for key in keys},
    }


def cameras(config: NodeBenchmarkConfig) -> dict:
    """Measure the rates of four cameras."""
    with Robot(["front", "left", "rear", "right"], config.width, config.height, config.rate) as robot:
        robot.start_node(engine="null", labels=list(LABELS))
        _play(robot, config)
        rates = {camera: round(len(robot.arrived[camera]) / config.seconds, 2) for camera in robot.cameras}
        slowest = round(min(rates.values()) / max(rates.values()), 3)
        return {"rates": rates, "slowest to fastest": slowest, "latency": _of_all(robot, robot.latencies)}


def age(config: NodeBenchmarkConfig) -> dict:
    """Measure how old frames are when their results come, without inference, where that is the bottleneck."""
    four = ["front", "left", "rear", "right"]
    with Robot(four, config.width, config.height, config.rate, infos=True) as robot:
        robot.start_node(engine=f"null:{config.slow:g}", labels=list(LABELS))
        _play(robot, config)
        ages = _of_all(robot, robot.ages)
        return {"engine ms": config.slow, "age": ages, "p99 in periods": round(ages["p99"] * config.rate / 1e3, 2)}


def vocabulary(config: NodeBenchmarkConfig) -> dict:
    """Measure gaps between frames before, and while a vocabulary that nothing is cached of is taken over.

    There are as many labels before as after: more of them would make every frame later, however smooth the change.
    """
    with tempfile.TemporaryDirectory() as cache, Robot(["camera"], config.width, config.height, config.rate) as robot:
        labels = [f"known thing number {index}" for index in range(config.labels)]
        robot.start_node(model=config.model, engine=config.engine, labels=labels, cache_dir=cache)
        _play(robot, config)
        usual = robot.gaps("camera")
        began, version = time.monotonic(), robot.status.version
        robot.ask([f"unknown thing number {index}" for index in range(config.labels)])
        robot.spin_until(lambda: robot.status.version > version, "the new vocabulary")
        taken = 1e3 * (time.monotonic() - began)
        heard = len(robot.arrived["camera"])
        robot.spin_until(lambda: len(robot.arrived["camera"]) > heard + 2, "frames after the change")
        longest = float(robot.gaps("camera", began).max())
        return {
            "usual gap": percentiles(usual),
            "longest gap": round(longest, 1),
            "longest to usual": round(longest / float(np.median(usual)), 2),
            "until in use": round(taken, 1),
        }


PARTS = {"latency": latency, "cameras": cameras, "age": age, "vocabulary": vocabulary}


def _play(robot: Robot, config: NodeBenchmarkConfig) -> None:
    """Let the cameras play until the warm-up is over, and then for the seconds that count."""
    robot.play()
    robot.spin_until_all_cameras_are_answered()
    robot.spin_for(config.warmup)
    robot.forget()
    robot.spin_for(config.seconds)


def _of_all(robot: Robot, measure) -> dict[str, float]:
    return percentiles(np.concatenate([measure(camera) for camera in robot.cameras]))


def main(config: NodeBenchmarkConfig) -> None:
    """Measure, print and write the results."""
    results = run(config)
    path = Path(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(jsonargparse.auto_cli(NodeBenchmarkConfig, as_positional=False))
