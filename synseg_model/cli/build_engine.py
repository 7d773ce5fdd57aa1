"""`synseg build-engine`: build an exported folder's TensorRT engines ahead of their first use."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tqdm import tqdm

from synseg_model.engines.tensorrt.build import Plans, Profile
from synseg_model.engines.tensorrt.cache import EngineCache
from synseg_model.engines.tensorrt.flavour import device_index, load_flavour
from synseg_model.weights.exported_folder import GPU_GRAPHS


def run(arguments: argparse.Namespace) -> int:
    """Build what the cache lacks, with progress, and say where it lies; raise OSError where it cannot be kept."""
    gpu, capability = find_gpu(arguments.device)
    flavour = load_flavour(capability)
    plans = Plans(Path(arguments.folder).expanduser(), flavour, gpu, Profile(), EngineCache())
    print(f"{flavour.name} {flavour.version} for {gpu or 'no GPU in particular, as there is none here'}")
    for name in GPU_GRAPHS:
        started = time.monotonic()
        with tqdm(desc=name, unit="step", leave=False, disable=None) as bar:  # a terminal's only, no log's

            def report(phase: str, done: int, steps: int, bar: tqdm = bar, name: str = name) -> None:
                bar.total, bar.n = steps, done
                bar.set_description(f"{name}: {phase}")

            plan = plans.get(name, report=report)
        if plans.find(name) is None:  # the cache has said why
            raise OSError(f"the engine of {name} cannot be kept: let $SYNSEG_CACHE_DIR be a folder that can be written")
        path = plans.cache.path(plans.key(name))
        print(f"{name}: {len(plan) / 1e6:.1f} MB after {time.monotonic() - started:.1f} s, {path}")
    return 0


def find_gpu(device: str) -> tuple[str, tuple[int, int] | None]:
    """Find the GPU to build for: its name and compute capability; ("", None) where "auto" finds none."""
    index = device_index(device)
    try:
        from synseg_model.engines.tensorrt.runner import CudaDevice  # imports pycuda, which imports CUDA's driver

        gpu = CudaDevice(index)
    except (ImportError, ValueError):
        if device != "auto":
            raise
        return "", None
    return gpu.name, gpu.capability
