"""The training loop: device, precision, processes, checkpoints, log. Knows nothing of data sets and of losses.

What a step draws at random is a function of seed, step and process alone, so a checkpoint needs no random state and a
run that was killed goes on exactly where it stopped.
"""

from __future__ import annotations

import json
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
from training.loop.collapse import CollapseGuard
from training.loop.config import TrainerConfig
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
        config, fabric = self.config, self.fabric
        self.output.mkdir(parents=True, exist_ok=True)
        optimizer = build_optimizer(objective.parameter_groups(config), config)
        averaged = AveragedModel(objective.averaged, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        averaged.to(fabric.device)
        progress = self.progress = self._load(objective, optimizer, averaged, resume)
        start, before = progress.step, progress.seconds
        started = time.monotonic()
        module, optimizer = fabric.setup(objective, optimizer)
        share = Share(fabric.global_rank, fabric.world_size, start, config.batch, config.accumulate, fabric.device)
        stream = batches(share)
        guard, bad = CollapseGuard(config.patience), 0
        log = None
        if fabric.is_global_zero:
            log = TrainingLog(self.output, start, config.steps, config.batch, config.log_every)
        with self._signals(), log or nullcontext():
            for step in range(start, config.steps):
                if self._done(step) >= 1:
                    break
                seed_step(config.seed, step, fabric.global_rank)
                waited = time.perf_counter()
                parts = next(stream)
                waited = time.perf_counter() - waited
                factor = rate_factor(self._done(step), step, config.warmup, config.least_rate)
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["peak"]
                values = self._backward(module, averaged.module, parts)
                norm = fabric.clip_gradients(module, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
                values["gradient_norm"] = float(norm)
                if all(math.isfinite(value) for value in values.values()):
                    optimizer.step()
                    averaged.update_parameters(objective.averaged)
                    guard.update(values)
                    bad = 0
                else:  # one bad batch must not spoil the weights; many mean that they are spoilt
                    bad += 1
                    if bad == 10:
                        raise FloatingPointError(
                            f"the loss was not finite for {bad} steps up to step {step}: "
                            + json.dumps(values) + "; lower the learning rate or use --trainer.precision 32-true"
                        )  # fmt: skip
                optimizer.zero_grad()
                spent = time.monotonic() - started
                progress.step, progress.seconds = step + 1, self._longest(before + spent)
                last = self._done(step + 1) >= 1
                if log:
                    rates = {"learning_rate": factor * config.learning_rate, "skipped": bad}
                    log.step(step, values, waited, rates, last)
                    if images and config.image_every and (step + 1) % config.image_every == 0:
                        log.images(step, images(averaged.module))
                if validate and config.validate_every and ((step + 1) % config.validate_every == 0 or last):
                    self._validate(validate, averaged.module, step, log)
                late = 0 < config.max_minutes * 60 <= time.monotonic() - started
                stop = self._anyone(self._stop or late)
                if (step + 1) % config.save_every == 0 or last or stop:
                    self._save(objective, optimizer, averaged)
                if stop and not last:
                    fabric.print(f"stopped after step {step + 1}; go on with --resume")
                    return None
        return averaged.module

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

    def _save(self, objective: nn.Module, optimizer: Any, averaged: AveragedModel) -> None:
        if self.fabric.is_global_zero:
            path, precision = self.output / CHECKPOINT_FILE, self.fabric.strategy.precision
            save_checkpoint(path, self.config.seed, objective, averaged, optimizer, precision, self.progress)
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


def check_accelerator(name: str) -> None:
    """Raise ValueError for an accelerator that is unknown or that this machine does not have."""
    there = {
        "auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "gpu": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }  # fmt: skip
    if name not in there:
        raise ValueError(f"accelerator is {name!r}: expected auto, cpu, cuda or mps")
    if not there[name]:
        raise ValueError(f"accelerator is {name!r}, and torch finds none here: choose auto or cpu")


def chosen_precision(config: TrainerConfig) -> str:
    """Return Fabric's name of a precision, "auto" and "fast" resolved for this machine."""
    if config.precision not in ("auto", "fast"):
        return config.precision
    if torch.cuda.is_available() and config.accelerator != "cpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if config.precision == "fast" and fast else "32-true"


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
