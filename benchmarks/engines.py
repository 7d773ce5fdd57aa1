"""Measure what an engine costs besides its frames: `python -m benchmarks.engines`.

Start-up from an empty process to the first label map, import time, resident memory, the time of a new vocabulary of 20
labels, new or cached, and the peak memory of many labels. Each figure is the median of fresh processes, one
engine after the other.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse

from benchmarks.contenders import write_models
from benchmarks.measuring import describe_machine, write_results

FIGURES = {
    "import_s": ("import", 1, "s"),
    "start_s": ("start-up", 1, "s"),
    "resident_bytes": ("resident", 1e-6, "MB"),
    "new_labels_s": ("20 new labels", 1e3, "ms"),
    "cached_labels_s": ("20 cached labels", 1e3, "ms"),
    "swap_s": ("swap between frames", 1e3, "ms"),
}


@dataclass
class EnginesBenchmark:
    """Settings of the measurement.

    Args:
        device: cpu or cuda.
        engines: to compare, each with the model that it runs; those that cannot run here are named in the result.
        model: an open_clip architecture with random weights as NAME@SIZE, a shipped model or a model folder.
        labels: of the first frame.
        many: numbers of labels whose peak memory is compared.
        repeats: fresh processes of each engine.
        output: JSON file; the plot and the Markdown table lie beside it.
    """

    device: str = "cpu"
    engines: tuple[str, ...] = ("torch", "onnxruntime", "openvino", "tensorrt")
    model: str = "ViT-B-16-quickgelu@352"
    labels: int = 20
    many: tuple[int, ...] = (171, 1203)
    repeats: int = 3
    output: str = "benchmarks/results/engines.json"


def main(config: EnginesBenchmark) -> dict:
    """Measure all engines in one run and write JSON, plot and table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder, config.model)
        measured: dict[str, list[dict]] = {name: [] for name in config.engines}
        absent: dict[str, str] = {}
        for _ in range(config.repeats):
            for name in config.engines:
                if name not in absent:
                    _measure(folder, name, config.device, config.labels, measured[name], absent)
        here = [name for name in config.engines if name not in absent]
        memory: dict[str, dict[str, int]] = {name: {} for name in here}
        for count in config.many:
            for name in here:
                runs: list[dict] = []
                _measure(folder, name, config.device, count, runs, absent)
                memory[name][str(count)] = runs[0]["peak_bytes"]
    medians = {
        name: {figure: statistics.median(run[figure] for run in measured[name]) for figure in FIGURES} for name in here
    }
    result = {
        "what": f"{config.model}, {config.labels} labels, fp32",
        "machine": describe_machine(config.device),
        "settings": asdict(config),
        "not_here": absent,
        "medians": medians,
        "imports": {name: measured[name][0]["imports"] for name in here},
        "peak_memory_bytes": memory,
    }
    write_results(config.output, result, make_table(result))
    plot(result, Path(config.output).with_suffix(".png"))
    return result


def _measure(folder: Path, engine: str, device: str, labels: int, runs: list[dict], absent: dict[str, str]) -> None:
    """Run one fresh process and add its figures to `runs`; or why there are none to `absent`."""
    model = folder / ("model" if engine == "torch" else "fp32")
    command = [sys.executable, "-m", "benchmarks.engine_child", str(model), engine, device, str(labels)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        absent[engine] = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    else:
        runs.append(json.loads(done.stdout.splitlines()[-1]))


def make_table(result: dict) -> list[str]:
    """Lay out the medians, engines down and figures across, with the ratio of memories last."""
    many = list(result["settings"]["many"])
    heads = [f"{title}, {unit}" for title, _, unit in FIGURES.values()]
    heads.append(f"peak memory, K = {many[-1]} over {many[0]}")
    lines = [f"| {result['what']} | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for name, medians in result["medians"].items():
        cells = [f"{scale * medians[figure]:.3g}" for figure, (_, scale, _) in FIGURES.items()]
        peaks = result["peak_memory_bytes"][name]
        cells.append(f"{peaks[str(many[-1])] / peaks[str(many[0])]:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def plot(result: dict, path: Path) -> None:
    """Draw each figure as bars, one per engine; nothing where matplotlib is not there."""
    try:
        import matplotlib
    except ImportError:
        return

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(1, len(FIGURES), figsize=(2.2 * len(FIGURES), 3))
    for axes, (key, (title, scale, unit)) in zip(rows, FIGURES.items(), strict=True):
        axes.bar(list(result["medians"]), [scale * medians[key] for medians in result["medians"].values()])
        axes.set_title(f"{title}, {unit}", fontsize=8)
        axes.tick_params(axis="x", labelrotation=45, labelsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(jsonargparse.auto_cli(EnginesBenchmark, as_positional=False))
