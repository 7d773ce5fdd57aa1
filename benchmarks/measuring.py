"""What the benchmarks share: interleaved repeats, the machine's own speed, and writing results."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def interleave(runs: dict[str, Callable[[], object]], repeats: int, seconds: float = 60) -> dict[str, float]:
    """Time every run `repeats` times, in turn, after one that is not counted; returns medians in seconds.

    Whatever else the machine does then meets all of them alike. A run that takes more than `seconds` counts its first
    time and is not repeated.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            if times[name] and max(times[name]) > seconds:
                continue
            took = _time(run)
            if turn or took > seconds:
                times[name].append(took)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _time(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine_speed(device: str, dtype: torch.dtype, size: int = 2048, repeats: int = 7) -> dict[str, float]:
    """Measure what this machine reaches: FLOP/s of a square matrix product, bytes/s of a copy (read and written)."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(64 * 2**20, device=device)  # 256 MB: more than any cache
    target = torch.empty_like(source)

    def product() -> None:
        a @ b
        wait()

    def copy() -> None:
        target.copy_(source)
        wait()

    best = {}
    for name, run in (("product", product), ("copy", copy)):
        run()  # what is set up once is not counted
        best[name] = min(_time(run) for _ in range(repeats))  # a roof is what can be reached, not what is usual
    return {"flops_per_s": 2 * size**3 / best["product"], "bytes_per_s": 2 * source.nbytes / best["copy"]}


def describe_machine(device: str) -> dict[str, str]:
    """Name the processor, the number of threads and the versions that a figure was measured with."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {"cpu": f"{cpu}, {torch.get_num_threads()} threads", **gpu, "torch": torch.__version__}


def write_results(path: str | Path, result: dict, table: list[str]) -> None:
    """Write the JSON, and beside it the Markdown table."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(whole, path)  # a run that is stopped leaves the last whole one
    path.with_suffix(".md").write_text("\n".join(table) + "\n")
    print("\n".join(table))
