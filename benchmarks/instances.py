"""Time what instances cost for each frame of a camera: `python -m benchmarks.instances`.

The label map is drawn: 30 objects of 20 labels with wavy outlines at 640x480, with depth of which 10 % is missing.
Times are of one thread and medians of runs that take turns. Beside the wall time stands the thread's own time, which
leaves out what other processes took on a busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import cv2
import jsonargparse
import numpy as np

from benchmarks.measuring import describe_machine, write_results
from synseg_model.instances import (
    Intrinsics,
    Tracker,
    depth_in_metres,
    find_instances,
    locate,
    make_cloud,
    register,
    transform_matrix,
)


@dataclass
class InstancesConfig:
    """Settings of the measurement.

    Args:
        width: of the image, in pixels. height: the same.
        labels: in the vocabulary. objects: in the image.
        repeats: of every step.
        output: JSON file.
    """

    width: int = 640
    height: int = 480
    labels: int = 20
    objects: int = 30
    repeats: int = 200
    output: str = "benchmarks/results/instances.json"


def draw(config: InstancesConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw label map, confidence, image and depth."""
    rng = np.random.default_rng(0)
    shape = config.height, config.width
    label_map = np.zeros(shape, np.uint16)
    columns = int(np.ceil((config.objects * config.width / config.height) ** 0.5))
    cell = config.width / columns
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    for index in range(config.objects):
        center = (np.array((index % columns, index // columns)) + 0.5) * cell + rng.normal(0, 0.05 * cell, 2)
        waves = sum(rng.normal(0, 0.05) * np.sin(k * angle + rng.uniform(0, 6)) for k in (2, 3, 7))
        radius = cell * rng.uniform(0.25, 0.45) * (1 + waves)
        outline = center + np.stack((np.cos(angle), np.sin(angle)), 1) * radius[:, None] * rng.uniform(0.7, 1, 2)
        cv2.fillPoly(label_map, [outline.astype(np.int32)], 1 + index % config.labels)
    depth = rng.normal(2, 0.01, shape).astype(np.float32)
    depth[rng.random(shape) < 0.1] = np.nan
    return label_map, rng.random(shape, np.float32), rng.integers(0, 256, (*shape, 3), np.uint8), depth


def steps(config: InstancesConfig) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    label_map, confidence, image, depth = draw(config)
    names = [f"label {index}" for index in range(config.labels)]
    camera = Intrinsics(500, 500, config.width / 2, config.height / 2, config.width, config.height)
    instances = find_instances(label_map, confidence, names)
    tracker, stamps = Tracker(), iter(np.arange(1e9) / 30)
    specks = np.where(np.random.default_rng(1).random(label_map.shape) < 10_000 / label_map.size, 1, 0).astype(np.uint8)
    millimetres = (np.nan_to_num(depth) * 1000).astype(np.uint16)
    beside = transform_matrix((0, 0, 0, 1), (0.05, 0, 0))
    size, half = label_map.shape, depth[::2, ::2].copy()
    return {
        "find": lambda: find_instances(label_map, confidence, names),
        "track": lambda: tracker.update(instances, next(stamps)),
        "positions": lambda: locate(instances, depth, camera, size),
        "positions, depth of half the size": lambda: locate(instances, half, camera, size),
        "points of labels": lambda: make_cloud(depth, camera, image, label_map, instances),
        "points of all pixels": lambda: make_cloud(depth, camera, image, label_map, instances, background=True),
        "depth from millimetres": lambda: depth_in_metres(millimetres),
        "register depth": lambda: register(depth, camera, camera, beside),
        "find among 10,000 specks": lambda: find_instances(specks, confidence, names),
    }


def main(config: InstancesConfig) -> dict:
    """Time every step and write the JSON and the table."""
    cv2.setNumThreads(1)
    runs = steps(config)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(config.repeats + 1):
        for name, run in runs.items():
            wall, own = time.perf_counter(), time.thread_time()
            run()
            if turn:
                times[name].append((time.perf_counter() - wall, time.thread_time() - own))
    measured = {}
    for name, taken in times.items():
        wall, own = (statistics.median(column) * 1e3 for column in zip(*taken, strict=True))
        fastest = min(own for _, own in taken) * 1e3
        measured[name] = {"wall_ms": round(wall, 2), "thread_ms": round(own, 2), "least_thread_ms": round(fastest, 2)}
    settings = {name: value for name, value in asdict(config).items() if name != "output"}
    result = {"machine": describe_machine("cpu") | {"threads": "1"}, "settings": settings, "steps": measured}
    table = ["| step | ms, median | thread's own ms, median | least |", "|---|---|---|---|"]
    table += [f"| {name} | {' | '.join(f'{value:.2f}' for value in row.values())} |" for name, row in measured.items()]
    write_results(config.output, result, table)
    return result


if __name__ == "__main__":
    main(jsonargparse.auto_cli(InstancesConfig, as_positional=False))
