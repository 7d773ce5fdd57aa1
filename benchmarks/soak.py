"""Run the node for long and watch its memory: `python -m benchmarks.soak`.

Two cameras play and the vocabulary changes every second by default, with labels that come back and labels that are
new. The JSON says by how much the node's memory grew after the warm-up, the plot beside it shows the course.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import numpy as np

from benchmarks.robot import Robot, resident


@dataclass
class SoakConfig:
    """Settings of the run.

    Args:
        seconds: of the whole run. warmup: share of it after which growth counts. every: seconds between two changes.
        model: a model. engine: that runs it, null for none.
        cameras: how many. width: of the images. height: of the images. rate: of each, frames per second.
        output: JSON file; the plot lies beside it.
    """

    seconds: float = 600.0
    warmup: float = 0.2
    every: float = 1.0
    model: str = "synseg-tiny"
    engine: str = "null"
    cameras: int = 2
    width: int = 640
    height: int = 480
    rate: float = 15.0
    output: str = "benchmarks/results/soak.json"


def soak(config: SoakConfig) -> dict:
    """Run, and return the growth (a share), frames, vocabularies and memory (MB) after every change."""
    names = [f"camera{index}" for index in range(config.cameras)]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as cache, Robot(names, config.width, config.height, config.rate) as robot:
        node = robot.start_node(model=config.model, engine=config.engine, labels=["ball"], cache_dir=cache)
        robot.play()
        robot.spin_until_all_cameras_are_answered()
        began, times, memory, frames = time.monotonic(), [], [], 0
        while time.monotonic() - began < config.seconds:
            robot.ask([f"thing {number}" for number in rng.integers(0, 500, rng.integers(1, 30))])
            robot.spin_for(config.every)
            times.append(time.monotonic() - began)
            memory.append(resident(node.pid) / 1e6)
            frames += sum(len(arrived) for arrived in robot.arrived.values())
            robot.forget()
        version = robot.status.version
    return {
        "config": asdict(config),
        "growth": round(growth(np.array(times), np.array(memory), config.warmup * config.seconds), 4),
        "frames": frames,
        "vocabularies": version,
        "seconds": [round(value, 1) for value in times],
        "memory": [round(value, 1) for value in memory],
    }


def growth(times: np.ndarray, memory: np.ndarray, begin: float) -> float:
    """Return by which share memory is higher in the last fifth after begin than in the first fifth."""
    kept = memory[times >= begin]
    fifth = max(1, len(kept) // 5)
    first, last = np.median(kept[:fifth]), np.median(kept[-fifth:])
    return float(last / first - 1)


def plot(results: dict, path: Path) -> None:
    """Draw memory over time as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    axes.plot(results["seconds"], results["memory"])
    axes.axvline(results["config"]["warmup"] * results["config"]["seconds"], color="gray", linestyle=":")
    axes.set(xlabel="seconds", ylabel="memory of the node (MB)", ylim=(0, None))
    axes.set_title(f"{results['frames']} frames, {results['vocabularies']} vocabularies: {results['growth']:+.1%}")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(config: SoakConfig) -> None:
    """Run, write results and plot, and print the growth."""
    results = soak(config)
    path = Path(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results) + "\n")
    plot(results, path.with_suffix(".png"))
    done = f"{results['frames']} frames, {results['vocabularies']} vocabularies"
    print(f"{done}: memory grew by {results['growth']:+.1%}; {path}")


if __name__ == "__main__":
    main(jsonargparse.auto_cli(SoakConfig, as_positional=False))
