"""The training loop: device, precision, processes, checkpoints, log. Knows nothing of data sets and of losses.

What a step draws at random is a function of seed, step and process alone, so a checkpoint needs no random state and a
run that was killed goes on exactly where it stopped.
"""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synseg_model.files import write_whole
from training.loop.checkpoint import CHECKPOINT_FILE, Progress, load_checkpoint, save_checkpoint
from training.loop.collapse import CollapseGuard, FiniteGuard
from training.loop.config import TrainerConfig
from training.loop.device import check_accelerator, chosen_precision
from training.loop.log import TrainingLog
from training.loop.optimizers import build_optimizer
from training.loop.schedule import rate_factor

BEST_FILE = "best.safetensors"


class Objective(Protocol):
    """What the loop trains: a module that is called with a part of a batch and the averaged module.

    It returns scalars, means over the part. "total" is the loss. "activation/mean", "activation/pixels" and
    "activation/labels" (standard deviations over pixels and over labels), where it has them, tell whether activation
    maps still say something. Everything it returns is logged.

    Attributes:
        averaged: the module of which the loop keeps a moving average: a decoder, or more.
    """

    averaged: nn.Module

    def parameter_groups(self, config: TrainerConfig) -> list[dict]: ...
    def __call__(self, part: Any, averaged: nn.Module) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Share:
    """A process's share of the data.

    Attributes:
        rank, world: process `rank` of `world`.
        start: the first step.
        batch: images of a step, of all processes.
        parts: that this process cuts its share of a batch into.
        device: where the parts are to be.
    """

    rank: int
    world: int
    start: int
    batch: int
    parts: int
    device: torch.device

    @property
    def size(self) -> int:
        """Return the images of a part."""
        return self.batch // self.world // self.parts

    def numbers(self) -> range:
        """Number this process's parts of a step among those of all processes."""
        return range(self.rank * self.parts, (self.rank + 1) * self.parts)


@dataclass
class _Run:
    """What a run trains with: `module` and `optimizer` as Fabric wraps them, `objective` as it came."""

    objective: nn.Module
    module: nn.Module
    optimizer: Any
    averaged: AveragedModel
    collapse: CollapseGuard
    finite: FiniteGuard


Made = TypeVar("Made")
Batches = Callable[[Share], Iterator[list[Any]]]
Images = Callable[[nn.Module], dict[str, np.ndarray]]
Validate = Callable[[nn.Module], dict[str, float]]  # of the averaged module; "score", if any, says which is the best


class Trainer:
    """Run an objective over batches, on one device or many.

    Example:
        >>> trainer = Trainer(TrainerConfig(output="runs/mccl", steps=100))
        >>> averaged = trainer.fit(CaptionObjective(network, ObjectiveConfig()), batches)
    """

    def __init__(self, config: TrainerConfig):
        """Start the processes that the config asks for.

        Raises:
            ValueError: the machine has no such accelerator.
        """
        self.config = config
        check_accelerator(config.accelerator)
        self.fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy="ddp" if config.devices * config.nodes > 1 else "auto",
            precision=chosen_precision(config),
        )
        self.fabric.launch()
        self.output = Path(config.output)
        self.progress = Progress()
        self._stop = False

    def first_alone(self, make: Callable[[], Made]) -> Made:
        """Return what `make` makes; the first process makes it before the others, which then find its files."""
        first = self.fabric.is_global_zero
        made = make() if first else None
        self.fabric.barrier()
        return made if first else make()

    def fit(
        self,
        objective: nn.Module,
        batches: Batches,
        images: Images | None = None,
        resume: bool = False,
        validate: Validate | None = None,
    ) -> nn.Module | None:
        """Train to the end of the run.

        Args:
            objective: what trains, see `Objective`.
            batches: yields the parts of every step.
            images: draws what the averaged module does, (H,W,3) uint8, for TensorBoard.
            resume: go on from the checkpoint in `config.output`, if there is one.
            validate: measures the averaged module; the weights of the best "score" are kept in BEST_FILE.

        Returns:
            The averaged module; None where a signal or `max_minutes` ended the run before.

        Raises:
            CollapseError: activation maps say nothing any more.
            FloatingPointError: the loss stays infinite or not a number.
            ValueError: a checkpoint is in the way or of another run.
        """
        config = self.config
        self.output.mkdir(parents=True, exist_ok=True)
        run = self._start(objective, resume)
        start, before, started = self.progress.step, self.progress.seconds, time.monotonic()
        stream = batches(self._share(start))
        log = self._open_log(start)
        with self._signals(), log or nullcontext():
            for step in range(start, config.steps):
                if self._done(step) >= 1:
                    break
                seed_step(config.seed, step, self.fabric.global_rank)
                waited = time.perf_counter()
                parts = next(stream)
                waited = time.perf_counter() - waited
                factor = rate_factor(self._done(step), step, config.warmup, config.least_rate)
                values = self._step(run, parts, step, factor)
                seconds = time.monotonic() - started
                self.progress.step, self.progress.seconds = step + 1, self._longest(before + seconds)
                last = self._done(step + 1) >= 1
                if log:
                    rates = {"learning_rate": factor * config.learning_rate, "skipped": run.finite.skipped}
                    log.step(step, values, waited, rates, last)
                    if images and _due(step, config.image_every):
                        log.images(step, images(run.averaged.module))
                if validate and config.validate_every and (_due(step, config.validate_every) or last):
                    self._validate(validate, run.averaged.module, step, log)
                stop = self._anyone(self._stop or 0 < config.max_minutes * 60 <= time.monotonic() - started)
                if _due(step, config.save_every) or last or stop:
                    self._save(run)
                if stop and not last:
                    self.fabric.print(f"stopped after step {step + 1}; go on with --resume")
                    return None
        return run.averaged.module

    def _start(self, objective: nn.Module, resume: bool) -> _Run:
        """Make what a run trains with, and set it and `progress` to where the checkpoint left off."""
        config = self.config
        optimizer = build_optimizer(objective.parameter_groups(config), config)
        averaged = AveragedModel(objective.averaged, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        averaged.to(self.fabric.device)
        self.progress = self._load(objective, optimizer, averaged, resume)
        module, optimizer = self.fabric.setup(objective, optimizer)
        return _Run(objective, module, optimizer, averaged, CollapseGuard(config.patience), FiniteGuard())

    def _share(self, start: int) -> Share:
        """Return this process's share of the data."""
        config, fabric = self.config, self.fabric
        return Share(fabric.global_rank, fabric.world_size, start, config.batch, config.accumulate, fabric.device)

    def _open_log(self, start: int) -> TrainingLog | None:
        """Open the log; the first process keeps one."""
        config = self.config
        if not self.fabric.is_global_zero:
            return None
        return TrainingLog(self.output, start, config.steps, config.batch, config.log_every)

    def _step(self, run: _Run, parts: list[Any], step: int, factor: float) -> dict[str, float]:
        """Train on one batch with `factor` of the peak learning rates; return what is logged."""
        for group in run.optimizer.param_groups:
            group["lr"] = factor * group["peak"]
        values = self._backward(run.module, run.averaged.module, parts)
        limit = self.config.clip_norm
        norm = self.fabric.clip_gradients(run.module, run.optimizer, max_norm=limit, error_if_nonfinite=False)
        values["gradient_norm"] = float(norm)
        if run.finite.update(values, step):
            run.optimizer.step()
            run.averaged.update_parameters(run.objective.averaged)
            run.collapse.update(values)
        run.optimizer.zero_grad()
        return values

    def _done(self, step: int) -> float:
        """Return how far a run is before a step: 1 at its end, by steps or by the budget of time."""
        done, budget = step / self.config.steps, 60 * self.config.budget_minutes
        return max(done, self.progress.seconds / budget) if budget else done

    def _longest(self, seconds: float) -> float:
        """Return the longest time of all processes where rates depend on it: they must be the same everywhere."""
        if self.fabric.world_size == 1 or not self.config.budget_minutes:
            return seconds
        every = self.fabric.all_gather(torch.tensor(seconds, dtype=torch.float64, device=self.fabric.device))
        return float(every.max())

    def _validate(self, validate: Validate, averaged: nn.Module, step: int, log: TrainingLog | None) -> None:
        """Measure the average, log it, and keep its weights where none was better; the first process does."""
        if log:
            values = validate(averaged)
            log.validation(step, values)
            if values.get("score", -math.inf) > self.progress.best:
                self.progress.best = values["score"]
                state = {name: value.detach().cpu().contiguous() for name, value in averaged.state_dict().items()}
                write_whole(self.output / BEST_FILE, lambda file: file.write(save(state)))
        self.fabric.barrier()

    def _backward(self, module: nn.Module, averaged: nn.Module, parts: list[Any]) -> dict[str, float]:
        """Accumulate the gradient over a process's parts; returns means over the whole batch."""
        sums: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with self.fabric.no_backward_sync(module, enabled=not last and self.fabric.world_size > 1):
                losses = module(part, averaged)
                self.fabric.backward(losses["total"] / len(parts))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / len(parts)
        means = self.fabric.all_reduce(torch.stack(list(sums.values())), reduce_op="mean")
        return dict(zip(sums, means.tolist(), strict=True))

    def _anyone(self, flag: bool) -> bool:
        """Tell whether any process has the flag up: all must leave the loop at the same step."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum") > 0)

    def _signals(self):
        """Let Ctrl-C and SIGTERM end the run after the current step; a second one ends it at once."""

        def stop(number: int, _frame: Any) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True
            self.fabric.print(f"\n{signal.Signals(number).name}: saving after this step")

        return _handlers({signal.SIGINT: stop, signal.SIGTERM: stop})

    def _save(self, run: _Run) -> None:
        if self.fabric.is_global_zero:
            path, precision = self.output / CHECKPOINT_FILE, self.fabric.strategy.precision
            state = (run.objective, run.averaged, run.optimizer)
            save_checkpoint(path, self.config.seed, *state, precision, self.progress)
        self.fabric.barrier()

    def _load(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer, averaged: AveragedModel, resume: bool
    ) -> Progress:
        path = self.output / CHECKPOINT_FILE
        self.fabric.barrier()
        if not path.exists():
            return Progress()
        if not resume:
            raise ValueError(f"{path} holds a run already: go on with --resume, or choose another --trainer.output")
        precision = self.fabric.strategy.precision
        return load_checkpoint(path, self.config.seed, objective, averaged, optimizer, precision)


def _due(step: int, every: int) -> bool:
    """Tell whether something is done after a step, every so many steps; 0: never."""
    return every > 0 and (step + 1) % every == 0


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed Python, numpy and torch as a function of seed, step and process."""
    value = int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


@contextmanager
def _handlers(handlers: dict[int, Callable]) -> Iterator[None]:
    """Install signal handlers for a while."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
