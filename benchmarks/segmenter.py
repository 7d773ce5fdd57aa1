"""Measure a frame's time side by side with CLIPSeg's: `python -m benchmarks.segmenter`.

ViT-B/16 at 352 px with random weights, which change no speed, unless `--model` says otherwise. Ours, per engine, is
timed from a host frame of 640x480 to its label map on the host. Hugging Face's CLIPSegForImageSegmentation is timed
from the same frame to activations, without tokenising: used the usual way, which repeats the image for every label,
and with its image tower run once.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import numpy as np
import torch

from benchmarks.contenders import CONTENDERS, Contender, make_contender, write_models
from benchmarks.measuring import describe_machine, interleave, machine_speed, peak_memory, write_results

ROUNDS = 3  # of processes, where contenders run apart


@dataclass
class SegmenterBenchmark:
    """Settings of the measurement.

    Args:
        device: cpu or cuda.
        contenders: which to compare, also those of `benchmarks.peers`; those that cannot run here are named in the
            result.
        labels: numbers of labels.
        cameras: frames of one call.
        model: an open_clip architecture with random weights as NAME@SIZE, a shipped model or a model folder.
        repeats: interleaved ones, whose median counts.
        memory: measure peak memory too, in a process for each contender and number of labels.
        apart: give each contender a process of its own, as a robot does, in three rounds; threads of one library then
            take no time from another's.
        changes: time the first frame after a change of the vocabulary, too, to another one of nearly the size.
        output: JSON file; the plot and the Markdown table lie beside it.
    """

    device: str = "cpu"
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    labels: tuple[int, ...] = (1, 5, 20, 80, 171)
    cameras: int = 1
    model: str = "ViT-B-16-quickgelu@352"
    repeats: int = 5
    memory: bool = True
    apart: bool = False
    changes: bool = False
    output: str = "benchmarks/results/segmenter.json"


def main(config: SegmenterBenchmark) -> dict:
    """Measure all contenders in one run and write JSON, plot and table."""
    frames = [np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8) for seed in range(config.cameras)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder, config.model, config.contenders)
        result = {
            "what": f"{config.model}, {config.cameras} frame(s) of 640x480",
            "machine": describe_machine(config.device),
            "settings": asdict(config),
            "not_here": {},
            "seconds": {},
            "after_change_seconds": {},
            "roofline": rooflines(folder, config),
            "peak_memory_bytes": {},
        }
        found: dict[str, Contender] = {}
        for name in config.contenders:
            with _noting(result["not_here"], name):
                found[name] = make_contender(name, folder, config.device)
        for count in config.labels:
            result["seconds"][str(count)] = measure(folder, config, found, frames, count, result)
            write_results(config.output, result, make_table(result))  # whatever stops the next one, this is there
        if config.memory:
            result["peak_memory_bytes"] = measure_memory(folder, config, list(found))
            write_results(config.output, result, make_table(result))
    plot(result, Path(config.output).with_suffix(".png"))
    return result


def measure(
    folder: Path,
    config: SegmenterBenchmark,
    found: dict[str, Contender],
    frames: list[np.ndarray],
    labels: int,
    result: dict,
) -> dict[str, float]:
    """Time all contenders on frames and a number of labels; returns seconds. Those that fail are noted and left out."""
    if config.apart:
        return time_apart(folder, config, list(found), labels)
    runs = {}
    for name, each in list(found.items()):
        with _noting(result["not_here"], name):
            runs[name] = _run(each, frames, labels)
        if name not in runs:
            del found[name]
    seconds = interleave(runs, config.repeats)
    if config.changes:
        changing = {name: _change(each, frames, labels) for name, each in found.items()}
        result["after_change_seconds"][str(labels)] = interleave(changing, config.repeats)
    return seconds


@contextlib.contextmanager
def _noting(absent: dict[str, str], name: str) -> Iterator[None]:
    """Note why a contender cannot run here."""
    try:
        yield
    except (ValueError, ImportError, RuntimeError) as error:
        absent[name] = (str(error).splitlines() or [type(error).__name__])[0]


def _change(contender: Contender, frames: list[np.ndarray], labels: int) -> Callable[[], object]:
    """Return what segments frames for another vocabulary than the last time, of about `labels` labels."""
    vocabularies = []
    for count in {labels, max(1, labels - 1)}:
        contender.prepare(count)
        contender.settle(frames)
        vocabularies.append(contender.vocabulary)
    turn = itertools.cycle(vocabularies)
    return lambda: contender.run(frames, next(turn))


def _run(contender: Contender, frames: list[np.ndarray], labels: int) -> Callable[[], object]:
    contender.prepare(labels)
    contender.settle(frames)
    vocabulary = contender.vocabulary

    def run() -> None:
        contender.run(frames, vocabulary)

    return run


def rooflines(folder: Path, config: SegmenterBenchmark) -> dict[str, dict]:
    """Count the network's FLOPs and bytes and divide by what this machine reaches, in float32 and in half precision.

    Bytes are those that must be moved: weights once, frames in, activations out. Returns, by number of labels, the
    counts and the seconds of each precision: the larger of both times.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from synseg_model.engines.torch import TorchEngine

    network = TorchEngine(folder / "model", "cpu", "fp32").network  # the CPU counts what a GPU would do
    height, width = network.config.image.input_size(480, 640, network.encoder.patch)
    images, text = torch.zeros(1, 3, height, width), torch.zeros(2, network.encoder.text_width)
    counts = []
    for few in (1, 2):  # labels are decoded alike: one and two tell what each takes, in little memory
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images, text[:few])
        counts.append(counter.get_total_flops())
    parameters = sum(p.numel() for p in [*network.encoder.image.parameters(), *network.decoder.parameters()])
    half = torch.float16 if config.device.startswith("cuda") else torch.bfloat16
    types = {"fp32": torch.float32, "half": half}
    speeds = {name: machine_speed(config.device, dtype) for name, dtype in types.items()}
    result = {}
    for labels in config.labels:
        flops = config.cameras * (counts[0] + (labels - 1) * (counts[1] - counts[0]))
        values = parameters + config.cameras * labels * height * width
        row = result[str(labels)] = {"flops": flops, "values": values}
        for name, dtype in types.items():
            moved = values * dtype.itemsize + config.cameras * 640 * 480 * 3
            row[f"{name}_seconds"] = max(flops / speeds[name]["flops_per_s"], moved / speeds[name]["bytes_per_s"])
    return result | {"speeds": speeds}


def time_apart(folder: Path, config: SegmenterBenchmark, names: list[str], labels: int) -> dict[str, float]:
    """Time contenders one after the other, each in a process of its own, in ROUNDS rounds; returns median seconds."""
    context = multiprocessing.get_context("spawn")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            with context.Pool(1) as pool:
                task = (name, folder, config.device, config.cameras, labels, config.repeats)
                times[name].append(pool.apply(_seconds, task))
    return {name: statistics.median(taken) for name, taken in times.items()}


def _seconds(name: str, folder: Path, device: str, cameras: int, labels: int, repeats: int) -> float:
    frames = [np.random.default_rng(seed).integers(0, 256, (480, 640, 3), np.uint8) for seed in range(cameras)]
    run = _run(make_contender(name, folder, device), frames, labels)
    return interleave({name: run}, repeats)[name]


def measure_memory(folder: Path, config: SegmenterBenchmark, names: list[str]) -> dict[str, dict[str, int]]:
    """Run each contender once for each number of labels, in a process of its own; returns peak bytes."""
    context, result = multiprocessing.get_context("spawn"), {}
    for name in names:
        for count in config.labels:
            with context.Pool(1) as pool:
                task = (name, folder, config.device, config.cameras, count)
                result.setdefault(name, {})[str(count)] = pool.apply(_peak, task)
    return result


def _peak(name: str, folder: Path, device: str, cameras: int, labels: int) -> int:
    contender = make_contender(name, folder, device)
    frames = [np.zeros((480, 640, 3), np.uint8)] * cameras
    _run(contender, frames, labels)()
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_memory()


def make_table(result: dict) -> list[str]:
    """Lay out milliseconds, contenders down and numbers of labels across, with the roofline below."""
    counts = list(result["seconds"])
    lines = [f"| ms, {result['what']} | " + " | ".join(f"K = {count}" for count in counts) + " |"]
    lines.append("|---|" + "---|" * len(counts))
    for name in next(iter(result["seconds"].values()), {}):
        cells = [_milliseconds(result["seconds"][count].get(name)) for count in counts]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for precision in ("fp32", "half"):
        cells = [_milliseconds(result["roofline"][count][f"{precision}_seconds"]) for count in counts]
        lines.append(f"| roofline, {precision} | " + " | ".join(cells) + " |")
    return lines


def _milliseconds(seconds: float | None) -> str:
    """Write seconds as milliseconds with about three digits; a dash where there are none."""
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.{2 if seconds < 0.01 else 1}f}"


def plot(result: dict, path: Path) -> None:
    """Draw seconds over the number of labels, both logarithmic; nothing where matplotlib is not there."""
    try:
        import matplotlib
    except ImportError:
        return

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    counts = [int(count) for count in result["seconds"]]
    for name in next(iter(result["seconds"].values()), {}):
        seconds = [result["seconds"][str(count)].get(name, float("nan")) for count in counts]
        axes.plot(counts, seconds, marker="o", label=name)
    for precision, style in (("fp32", "--"), ("half", ":")):
        bound = [result["roofline"][str(count)][f"{precision}_seconds"] for count in counts]
        axes.plot(counts, bound, style, color="black", label=f"roofline, {precision}")
    axes.set(xscale="log", yscale="log", xlabel="labels", ylabel="seconds per call", title=result["what"])
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(jsonargparse.auto_cli(SegmenterBenchmark, as_positional=False))
