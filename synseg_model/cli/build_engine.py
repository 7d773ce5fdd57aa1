"""`synseg build-engine`: build the TensorRT engines of an exported folder ahead of their first use."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

NAME = "build-engine"
HELP = "build an exported folder's TensorRT engines ahead of time"
DESCRIPTION = """\
Build the TensorRT engines of an exported folder ahead of time: otherwise their first use has to wait.

Engines are kept in the cache folder ($SYNSEG_CACHE_DIR, else ~/.cache/synseg). Each belongs to one graph, one
TensorRT and its version, one GPU, one precision and the sizes that it is for: when one of these changes, another
engine is built. Engines that exist are left as they are.
"""
EXAMPLES = "example:\n  synseg build-engine exported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, the description and the example to the command's parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("folder", metavar="DIR", help="a folder that `synseg export` wrote")
    parser.add_argument("--device", default="auto", help="auto, cuda or cuda:N (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Build the engines that the cache lacks, show the progress, and print where each engine lies.

    Raises:
        OSError: where the cache folder cannot be written.
    """
    from tqdm import tqdm

    from synseg_model.engines.tensorrt.build import Plans, Profile
    from synseg_model.engines.tensorrt.cache import EngineCache
    from synseg_model.engines.tensorrt.flavour import load_flavour
    from synseg_model.weights.exported_folder import GPU_GRAPHS

    gpu, capability = find_gpu(arguments.device)
    flavour = load_flavour(capability)
    plans = Plans(Path(arguments.folder).expanduser(), flavour, gpu, Profile(), EngineCache())
    print(f"{flavour.name} {flavour.version} for {gpu or 'no GPU in particular, as there is none here'}")
    for name in GPU_GRAPHS:
        started = time.monotonic()
        with tqdm(desc=name, unit="step", leave=False, disable=None) as bar:  # on a terminal, not in a log

            def report(phase: str, done: int, steps: int, bar=bar, name: str = name) -> None:
                bar.total, bar.n = steps, done
                bar.set_description(f"{name}: {phase}")

            plan = plans.get(name, report=report)
        if plans.find(name) is None:  # the cache has said why
            raise OSError(f"cannot keep the engine of {name}: set $SYNSEG_CACHE_DIR to a folder that can be written")
        path = plans.cache.path(plans.key(name))
        print(f"{name}: {len(plan) / 1e6:.1f} MB after {time.monotonic() - started:.1f} s, {path}")
    return 0


def find_gpu(device: str) -> tuple[str, tuple[int, int] | None]:
    """Find the GPU to build for.

    Args:
        device: "auto", "cuda" or "cuda:N".

    Returns:
        The GPU's name and its compute capability; ("", None) where "auto" finds no GPU.

    Raises:
        ImportError, ValueError: where the GPU that `device` names cannot be used.
    """
    from synseg_model.engines.tensorrt.flavour import device_index

    index = device_index(device)
    try:
        from synseg_model.engines.tensorrt.runner import CudaDevice  # imports pycuda, which imports CUDA's driver

        gpu = CudaDevice(index)
    except (ImportError, ValueError):
        if device != "auto":
            raise
        return "", None
    return gpu.name, gpu.capability
