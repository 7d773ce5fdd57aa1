"""Give tasks to workers, and give the tasks of lost workers to others."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, NamedTuple

from synseg_model.cli.workers.host import Outcome, SharedFolder, Started, Work, WorkerAnswer
from synseg_model.cli.workers.pools import Pool, PoolWorker
from synseg_model.cli.workers.report import Report

__all__ = ["ATTEMPTS", "Crew", "shared_folder"]

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # workers that an item may cost
_STARTS = 3  # that may be lost one after the other
_PATIENCE_SECONDS = 60.0  # without a worker, until a warning


class _Task(NamedTuple):
    """Items for one worker, and how often a worker failed over them."""

    items: tuple[Any, ...]
    attempts: int = 0


class Crew:
    """Do work with the workers of a pool; for use in a `with`.

    A worker that is lost is replaced. Its items are done again, one by one, so that an item that ends its worker costs
    no other item. An item that ends two workers fails, and the rest goes on.

    Args:
        pool: where workers run.
        work: what they do.
        shared: files that they must see.
        report: counts what they do.
    """

    def __init__(self, pool: Pool, work: Work, shared: SharedFolder, report: Report) -> None:
        self._pool, self._work, self._shared, self._report = pool, work, shared, report
        self._settings: dict[str, Any] | None = None
        self._workers: dict[PoolWorker, dict[str, Any]] = {}  # with their part of the report
        self._running: dict[Future, tuple[PoolWorker, _Task | None]] = {}  # None: it is starting
        self._idle: list[PoolWorker] = []
        self._queue: deque[_Task] = deque()
        self._shown: set[str] = set()
        self._lost_starts, self._last_error = 0, ""

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._dismiss(worker, "ended")

    def settings(self, most_tasks: int) -> dict[str, Any]:
        """Start the workers, and return what the results depend on as soon as one is ready; see `Work.start`.

        Args:
            most_tasks: number of tasks that `run` may get; there is no use in more workers.

        Raises:
            ValueError: where no worker can do the work.
            RuntimeError: where workers are lost while they start.
        """
        for _ in range(max(1, min(self._pool.size, most_tasks))):
            self._hire()
        while self._settings is None:
            self._require_workers()
            for future in self._finished():
                worker, _ = self._running.pop(future)
                self._welcome(worker, future)
        return self._settings

    def run(self, tasks: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, Outcome]]:
        """Do tasks in any order; call `settings` before.

        Args:
            tasks: items that are done together, for each task.

        Yields:
            Each item and what came of it.

        Raises:
            OSError: where files cannot be read or written, on two workers.
            RuntimeError: where no worker is left.
        """
        self._queue.extend(_Task(tuple(items)) for items in tasks)
        for _ in range(len(self._workers), min(self._pool.size, len(self._queue))):
            self._hire()
        while True:
            while self._queue and self._idle:
                worker, task = self._idle.pop(), self._queue.popleft()
                self._running[worker.do(task.items)] = worker, task
            if not self._queue and not any(task for _, task in self._running.values()):
                return
            self._require_workers()
            for future in self._finished():
                worker, task = self._running.pop(future)
                if task is None:
                    self._welcome(worker, future)
                else:
                    yield from self._receive(worker, task, future)
            self._report.save_now_and_then()

    def _hire(self) -> None:
        worker = self._pool.hire(self._work, self._shared)
        self._workers[worker] = {}
        self._running[worker.start()] = worker, None

    def _dismiss(self, worker: PoolWorker, state: str) -> None:
        self._workers.pop(worker)["state"] = state
        worker.close()

    def _finished(self) -> set[Future]:
        done = wait(self._running, _PATIENCE_SECONDS, FIRST_COMPLETED).done
        if not done and all(task is None for _, task in self._running.values()):
            self._show(["no worker is ready yet: it waits for a free GPU or CPU, or for its model to load"])
        return done

    def _welcome(self, worker: PoolWorker, future: Future[Started]) -> None:
        """Let a worker that has started take tasks, replace it where it is lost, and do without it otherwise."""
        if future.exception() is not None:
            self._lost_starts += 1
            self._last_error = f"a worker was lost while it started: {_first_line(future.exception())}"
            self._dismiss(worker, "lost")
            if self._lost_starts < _STARTS:
                self._hire()
            return
        started, self._lost_starts = future.result(), 0
        self._show(started.logged)
        problem = started.error or self._difference(started)
        if problem:
            self._last_error = problem
            self._dismiss(worker, "left out")
            if self._workers:
                self._show([f"a worker is left out: {problem}"])
            return
        self._settings = self._settings or started.settings
        self._workers[worker] = self._report.add_worker(started)
        self._idle.append(worker)

    def _difference(self, started: Started) -> str:
        """Say in what a worker's results would differ from those of the first one."""
        ours, theirs = self._settings or started.settings, started.settings
        keys = [key for key in {**ours, **theirs} if key != "device" and ours.get(key) != theirs.get(key)]
        return f"on {started.host}, the results would have other {' and '.join(keys)}" if keys else ""

    def _receive(self, worker: PoolWorker, task: _Task, future: Future[WorkerAnswer]) -> Iterator[tuple[Any, Outcome]]:
        """Yield the outcomes of a task, or see to it that it is done again."""
        if future.exception() is not None:
            answer, state = WorkerAnswer(error=f"the worker was lost: {_first_line(future.exception())}"), "lost"
        else:
            answer, state = future.result(), "failed"
        self._show(answer.logged)
        if not answer.error:
            for item, outcome in zip(task.items, answer.outcomes, strict=True):
                self._workers[worker]["images"] += outcome.count
                self._report.images += outcome.count
                yield item, outcome
            self._idle.append(worker)
            return
        self._dismiss(worker, state)
        attempts = task.attempts + 1
        if attempts < ATTEMPTS:
            self._show([f"a task is done again: {answer.error}"])
            self._report.retries += len(task.items)
            self._queue.extendleft(_Task((item,), attempts) for item in reversed(task.items))
        elif answer.disk:
            raise OSError(answer.error)
        else:
            for item in task.items:
                yield item, Outcome(failure=f"given up after {attempts} workers; {answer.error}")
        if self._queue:
            self._hire()

    def _require_workers(self) -> None:
        if not self._workers:
            kind = RuntimeError if self._lost_starts else ValueError
            raise kind(self._last_error or "no worker is left")

    def _show(self, lines: Sequence[str]) -> None:
        """Log lines that were not logged before: all workers tell the same about a model."""
        for line in lines:
            if line not in self._shown:
                self._shown.add(line)
                logger.warning("%s", line)


@contextlib.contextmanager
def shared_folder(folder: Path, inputs: Sequence[Path] = ()) -> Iterator[SharedFolder]:
    """Keep a file in the output folder, by which workers know that they see the same folder.

    Args:
        folder: the output folder, which is made where it is missing.
        inputs: paths that workers must see.

    Raises:
        OSError: where the folder cannot be written.
    """
    folder = folder.expanduser().absolute()
    token = folder / f".synseg-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise OSError(f"cannot write {folder}: {error.strerror or error}") from None
    try:
        yield SharedFolder(token, tuple(path.expanduser().absolute() for path in inputs))
    finally:
        token.unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
