"""Where workers run: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from synseg_model.cli.workers.host import Host, SharedFolder, Started, Work, WorkerAnswer
from synseg_model.install_hints import missing_module

__all__ = ["Pool", "PoolWorker", "ProcessPool", "RayPool", "SinglePool", "cpus_each"]


class PoolWorker(Protocol):
    """Run tasks in another process. A future with an exception means that the process is lost."""

    def start(self) -> Future[Started]:
        """Load the model."""

    def do(self, items: Sequence[Any]) -> Future[WorkerAnswer]:
        """Do the items of a task."""

    def close(self) -> None:
        """End the process, also while it works."""


class Pool(Protocol):
    """Make workers.

    Attributes:
        size: number of workers at a time.
    """

    size: int

    def hire(self, work: Work, shared: SharedFolder) -> PoolWorker:
        """Make a worker; it gets a process as soon as there is room."""

    def close(self) -> None:
        """Let go of what the pool holds; the workers are closed before."""


class ProcessPool:
    """Run workers as processes of this machine: one for each GPU, else one for each CPU.

    Args:
        workers: number of processes; 0 for one per GPU or CPU.
        gpus: whether the work may use GPUs.
    """

    def __init__(self, workers: int, gpus: bool) -> None:
        cpus, devices = _usable_cpus(), _visible_gpus() if gpus else []
        self.size = workers or len(devices) or cpus
        self._devices, self._threads, self._hired = devices, max(1, cpus // self.size), 0

    def hire(self, work: Work, shared: SharedFolder) -> PoolWorker:
        """Start a process."""
        device = self._devices[self._hired % len(self._devices)] if self._devices else None
        self._hired += 1
        return _ProcessWorker(work, shared, device, self._threads)

    def close(self) -> None:
        """Do nothing: processes end with their workers."""


class SinglePool:
    """Run the one worker in this process, at once."""

    size = 1

    def hire(self, work: Work, shared: SharedFolder) -> PoolWorker:
        """Make the worker."""
        return _OwnWorker(work, shared)

    def close(self) -> None:
        """Do nothing: there is no process to end."""


class RayPool:
    """Run workers on a Ray cluster: one for each GPU, else one for each CPU.

    Args:
        workers: number of workers at a time; 0 for one per GPU or CPU.
        gpus: whether the work may use GPUs.
        address: of the cluster, as `ray.init` takes it; "" joins the one that RAY_ADDRESS names, or starts one here.
        packages: folders of the program that travel to the workers.

    Raises:
        ValueError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, workers: int, gpus: bool, address: str, packages: Sequence[Path]) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ValueError(missing_module(error)) from error
        self._ray, self._started_here = ray, not ray.is_initialized()
        address = address or os.environ.get("RAY_ADDRESS", "")
        if self._started_here:
            try:
                _require_listener(address)
                ray.init(
                    address=address or None,
                    runtime_env={"py_modules": [str(folder) for folder in packages]},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=None if address else False,
                )
            except (OSError, RuntimeError) as error:
                raise ValueError(f"no Ray cluster answers at {address or 'this machine'}: {error}") from error
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = [int(one.get("CPU", 0)) for one in resources]
        devices = int(sum(one.get("GPU", 0) for one in resources)) if gpus else 0
        self.size = workers or devices or max(1, sum(cpus))
        each = 1 if devices else cpus_each(cpus, self.size)
        self._actor = ray.remote(num_cpus=each, num_gpus=1 if devices else 0, max_restarts=0)(Host)

    def hire(self, work: Work, shared: SharedFolder) -> PoolWorker:
        """Ask the cluster for an actor."""
        return _RayWorker(self._ray, self._actor.remote(work, shared))

    def close(self) -> None:
        """Leave the cluster."""
        if self._started_here:
            self._ray.shutdown()


class _OwnWorker:
    """Do tasks at once, in this process."""

    def __init__(self, work: Work, shared: SharedFolder) -> None:
        self._host = Host(work, shared, own_process=False)

    def start(self) -> Future[Started]:
        return _done(self._host.start())

    def do(self, items: Sequence[Any]) -> Future[WorkerAnswer]:
        return _done(self._host.do(items))

    def close(self) -> None:
        pass


class _RayWorker:
    """An actor of a Ray cluster."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def start(self) -> Future[Started]:
        return self._actor.start.remote().future()

    def do(self, items: Sequence[Any]) -> Future[WorkerAnswer]:
        return self._actor.do.remote(items).future()

    def close(self) -> None:
        self._ray.kill(self._actor)


class _ProcessWorker:
    """A process that does one task at a time."""

    def __init__(self, work: Work, shared: SharedFolder, device: str | None, threads: int) -> None:
        self._executor = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_make_host,
            initargs=(work, shared, device, threads),
        )
        self._pid = 0
        self._latest: Future | None = None

    def start(self) -> Future[Started]:
        future = self._submit(_start_host)
        future.add_done_callback(self._note_pid)
        return future

    def do(self, items: Sequence[Any]) -> Future[WorkerAnswer]:
        return self._submit(_do_on_host, items)

    def close(self) -> None:
        if self._pid and self._latest is not None and not self._latest.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _submit(self, call: Callable, *arguments: Any) -> Future:
        self._latest = self._executor.submit(call, *arguments)
        return self._latest

    def _note_pid(self, future: Future[Started]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._pid = future.result().pid


def _done(value: Any) -> Future:
    future: Future = Future()
    future.set_result(value)
    return future


_host: Host | None = None  # of a worker process


def _make_host(work: Work, shared: SharedFolder, device: str | None, threads: int) -> None:
    """Prepare a worker process, before it imports a library that counts GPUs or threads."""
    global _host
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a video that is being written is closed
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    _host = Host(work, shared)


def _start_host() -> Started:
    return _host.start()


def _do_on_host(items: Sequence[Any]) -> WorkerAnswer:
    return _host.do(items)


def cpus_each(cpus: Sequence[int], workers: int) -> int:
    """Count the CPUs that each worker can have.

    Args:
        cpus: number of CPUs of each machine.
        workers: number of workers on all machines; a worker is on one machine.
    """
    return next((each for each in range(max(cpus, default=1), 1, -1) if sum(n // each for n in cpus) >= workers), 1)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible_gpus() -> list[str]:
    """List the GPUs of this machine as CUDA_VISIBLE_DEVICES names them, without loading CUDA."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(folder.iterdir())] if folder.is_dir() else []


def _require_listener(address: str) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself tries for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
