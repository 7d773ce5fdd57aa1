"""Run the work on shards: several processes of this machine, or a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from synseg_model.install_hints import missing_module
from training.captions.samples import Shard
from training.captions.work import Settings, Summary, process_shard

SHARDS_PER_CPU = 4  # handed to the cluster ahead of time
PROGRAM_FOLDER = Path(__file__).parents[1]


def usable_cpus() -> int:
    """Count the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_local(shards: Sequence[Shard], settings: Settings, workers: int) -> Iterator[Summary]:
    """Yield the summaries of shards as they are done, by `workers` processes; one worker is this process.

    Raises:
        RuntimeError: a worker was killed, most often for want of memory.
    """
    if workers == 1 or len(shards) == 1:
        yield from (process_shard(shard, settings) for shard in shards)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(shards)), mp_context=multiprocessing.get_context("spawn"), initializer=_leave_ctrl_c_to_caller
    )
    try:
        for future in as_completed([pool.submit(process_shard, shard, settings) for shard in shards]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker was killed, perhaps for want of memory. Finished shards stay: run the same command again, with "
            "fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_ray(shards: Sequence[Shard], settings: Settings, workers: int, address: str) -> Iterator[Summary]:
    """Yield the summaries of shards as they are done, by a Ray cluster; lost workers' shards are done again.

    The program travels to the workers, the data does not: paths must name the same files on every machine.

    Args:
        workers: shards that are worked on at a time; 0 means one for every CPU of the cluster.
        address: of the cluster, as `ray.init` takes it; "" joins the one that RAY_ADDRESS names, or starts one here.

    Raises:
        ValueError: Ray is not installed, or no cluster answers at the address.
        RuntimeError: a shard failed, or its worker was lost four times.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError(missing_module(error)) from error
    started_here = not ray.is_initialized()
    if started_here:
        address = address or os.environ.get("RAY_ADDRESS", "")
        try:
            _require_listener(address)
            ray.init(
                address=address or None,
                runtime_env={"py_modules": [str(PROGRAM_FOLDER)]},
                log_to_driver=False,
                include_dashboard=None if address else False,
            )
        except (OSError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error
    try:
        at_a_time = workers or SHARDS_PER_CPU * int(ray.cluster_resources().get("CPU", 1))
        task = ray.remote(num_cpus=1, max_retries=3)(process_shard)
        waiting = iter(shards)
        pending = [task.remote(shard, settings) for shard in islice(waiting, at_a_time)]
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            pending += [task.remote(shard, settings) for shard in islice(waiting, len(done))]
            yield ray.get(done[0])
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"the cluster gave up on a shard: {error}. Finished shards stay: run the same command again."
        ) from error
    finally:
        if started_here:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself tries for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _leave_ctrl_c_to_caller() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
