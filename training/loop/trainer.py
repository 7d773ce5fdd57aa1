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
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from synseg_model.files import write_whole
from training.loop.log import TrainingLog

CHECKPOINT_FILE = "last.pt"
BEST_FILE = "best.safetensors"


class CollapseError(RuntimeError):
    """Activation maps that say nothing any more: all empty, all full, or the same for every label."""


@dataclass
class TrainerConfig:
    """Settings of the loop.

    Args:
        output: folder for checkpoints, the log, TensorBoard events and the finished model folder.
        steps: optimiser steps.
        max_minutes: stop by itself after so many minutes, with a checkpoint from which the same command with --resume
            goes on to the bit; 0 for no limit.
        batch: images of one step, over all processes and accumulated parts.
        accumulate: parts that a process computes its share of a batch in, to save memory.
        accelerator: cpu, cuda, or auto.
        devices: processes on this machine, each with its own GPU where there are GPUs.
        nodes: machines; start the same command on each with `torchrun` or `fabric run`.
        precision: 32-true, bf16-mixed, 16-mixed, or auto for bf16 on GPUs that have it and float32 on CPUs.
        learning_rate: of the decoder, which is pre-trained.
        new_learning_rate: of layers that start from nothing: the projector, and a decoder of random weights.
        weight_decay: of matrices; vectors have none.
        warmup: steps over which the rates rise; they then fall along half a cosine.
        clip_norm: largest norm of a step's gradient.
        ema: decay of the moving average of the decoder's weights, which the finished model holds.
        save_every: steps between checkpoints.
        validate_every: steps between measurements on held-out images, where the program has some; 0 for none.
        log_every: steps between lines of the log.
        image_every: steps between images in TensorBoard; 0 for none.
        patience: steps for which activation maps may say nothing before the run is stopped; 0 never stops it.
        seed: of the order of the data, of augmentation and of new layers.
    """

    output: str = "runs/train"
    steps: int = 300
    max_minutes: float = 0.0
    batch: int = 16
    accumulate: int = 1
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"
    learning_rate: float = 1e-4
    new_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 50
    clip_norm: float = 5.0
    ema: float = 0.99
    save_every: int = 100
    validate_every: int = 0
    log_every: int = 10
    image_every: int = 100
    patience: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "accumulate": 1, "devices": 1, "nodes": 1, "save_every": 1, "log_every": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {value} or more")
        parts = self.devices * self.nodes * self.accumulate
        if self.batch % parts:
            raise ValueError(
                f"batch {self.batch} cannot be divided among {self.devices * self.nodes} processes with "
                f"{self.accumulate} parts each: choose a multiple of {parts}"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}: expected 0 (no average) or more, below 1")


class Objective(Protocol):
    """What the loop trains: called with a part of a batch and the averaged module, it returns means over the images.

    averaged: the module of which the loop keeps a moving average: the decoder, or more.

    "total" is the loss; "activation/mean", "activation/pixels" and "activation/labels" (standard deviations over
    pixels and over labels) tell whether the maps still say something. Everything it returns is logged.
    """

    averaged: nn.Module

    def parameter_groups(self, config: TrainerConfig) -> list[dict]: ...
    def __call__(self, part: Any, averaged: nn.Module) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Share:
    """A process's share of the data: process `rank` of `world`, in steps from `start`, `parts` parts in each."""

    rank: int
    world: int
    start: int
    batch: int
    parts: int
    device: torch.device


Batches = Callable[[Share], Iterator[list[Any]]]
Images = Callable[[nn.Module], dict[str, np.ndarray]]
Validate = Callable[[nn.Module], dict[str, float]]  # of the averaged module; "score" says which is the best


class CollapseGuard:
    """Count steps in a row whose activation maps say nothing."""

    def __init__(self, patience: int):
        self.patience, self.count = patience, 0

    def update(self, values: dict[str, float]) -> None:
        """Take one step's statistics; raise CollapseError when `patience` is over."""
        mean, pixels, labels = (values[f"activation/{name}"] for name in ("mean", "pixels", "labels"))
        reason = (
            f"all maps are empty (mean activation {mean:.4f})" if mean < 0.002
            else f"all maps are full (mean activation {mean:.4f})" if mean > 0.998
            else f"every map is flat (deviation over pixels {pixels:.5f})" if pixels < 0.002
            else f"all labels of an image have the same map (deviation over labels {labels:.5f})" if labels < 0.002
            else ""
        )  # fmt: skip
        self.count = self.count + 1 if reason else 0
        if self.patience and self.count >= self.patience:
            raise CollapseError(
                f"training has collapsed: for {self.count} steps {reason}. Lower the learning rate, start from a "
                "pre-trained decoder, or add the terms 'presence' or 'teacher' to the objective"
            )


class Trainer:
    """Run an objective over batches, on one device or many."""

    def __init__(self, config: TrainerConfig):
        self.config = config
        precision = config.precision
        if precision == "auto":
            bf16 = torch.cuda.is_available() and config.accelerator != "cpu" and torch.cuda.is_bf16_supported()
            precision = "bf16-mixed" if bf16 else "32-true"
        self.fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy="ddp" if config.devices * config.nodes > 1 else "auto",
            precision=precision,
        )
        self.fabric.launch()
        self.output = Path(config.output)
        self._stop = False

    def fit(
        self,
        objective: nn.Module,
        batches: Batches,
        images: Images | None = None,
        resume: bool = False,
        validate: Validate | None = None,
    ) -> nn.Module | None:
        """Train for `config.steps` steps and return the averaged module; None where a signal or time ended it before.

        resume: go on from the checkpoint in `config.output`, if there is one.
        validate: measure the averaged module; the weights of the best score are kept in BEST_FILE.
        Raise CollapseError; FloatingPointError for a loss that stays infinite or not a number; ValueError for a
        checkpoint that is in the way or of another run.
        """
        config, fabric = self.config, self.fabric
        self.output.mkdir(parents=True, exist_ok=True)
        optimizer = torch.optim.AdamW(objective.parameter_groups(config))
        started = time.monotonic()
        averaged = AveragedModel(objective.averaged, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
        averaged.to(fabric.device)
        self.best = -math.inf
        start = self._load(objective, optimizer, averaged, resume)
        module, optimizer = fabric.setup(objective, optimizer)
        share = Share(fabric.global_rank, fabric.world_size, start, config.batch, config.accumulate, fabric.device)
        stream = batches(share)
        guard, bad = CollapseGuard(config.patience), 0
        log = None
        if fabric.is_global_zero:
            log = TrainingLog(self.output, start, config.steps, config.batch, config.log_every)
        with self._signals(), log or nullcontext():
            for step in range(start, config.steps):
                seed_step(config.seed, step, fabric.global_rank)
                waited = time.perf_counter()
                parts = next(stream)
                waited = time.perf_counter() - waited
                factor = cosine_with_warmup(step, config.warmup, config.steps)
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
                if log:
                    log.step(step, values, waited, {"learning_rate": factor * config.learning_rate, "skipped": bad})
                    if images and config.image_every and (step + 1) % config.image_every == 0:
                        log.images(step, images(averaged.module))
                last = step + 1 == config.steps
                if validate and config.validate_every and ((step + 1) % config.validate_every == 0 or last):
                    self._validate(validate, averaged.module, step, log)
                late = 0 < config.max_minutes * 60 <= time.monotonic() - started
                stop = self._anyone(self._stop or late)
                if (step + 1) % config.save_every == 0 or last or stop:
                    self._save(objective, optimizer, averaged, step + 1)
                if stop and not last:
                    fabric.print(f"stopped after step {step + 1}; go on with --resume")
                    return None
        return averaged.module

    def _validate(self, validate: Validate, averaged: nn.Module, step: int, log: TrainingLog | None) -> None:
        """Measure the average, log it, and keep its weights where none was better; the first process does."""
        if log:
            values = validate(averaged)
            log.validation(step, values)
            if values["score"] > self.best:
                self.best = values["score"]
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

    def _save(self, objective: nn.Module, optimizer: Any, averaged: AveragedModel, step: int) -> None:
        if self.fabric.is_global_zero:
            kept = _kept(objective)
            state = {
                "step": step,
                "seed": self.config.seed,
                "weights": {name: value for name, value in objective.state_dict().items() if name in kept},
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "best": self.best,
            }
            write_whole(self.output / CHECKPOINT_FILE, partial(torch.save, state))
        self.fabric.barrier()

    def _load(
        self, objective: nn.Module, optimizer: torch.optim.Optimizer, averaged: AveragedModel, resume: bool
    ) -> int:
        path = self.output / CHECKPOINT_FILE
        self.fabric.barrier()
        if not path.exists():
            return 0
        if not resume:
            raise ValueError(f"{path} holds a run already: go on with --resume, or choose another --trainer.output")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["seed"] != self.config.seed:
            raise ValueError(f"{path} was trained with seed {state['seed']}, not {self.config.seed}: it cannot go on")
        kept = _kept(objective)
        if set(state["weights"]) != kept:
            names = sorted(set(state["weights"]) ^ kept)
            raise ValueError(f"{path} is of another objective or network: {names[:4]} differ; choose another output")
        objective.load_state_dict(state["weights"], strict=False)
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.best = state.get("best", -math.inf)
        return state["step"]


def _kept(objective: nn.Module) -> set[str]:
    """Name what a checkpoint holds: trained weights and buffers. What is frozen comes with the model."""
    return set(objective.state_dict()) - {name for name, p in objective.named_parameters() if not p.requires_grad}


def cosine_with_warmup(step: int, warmup: int, steps: int) -> float:
    """Return the learning rate's factor in [0, 1]: linear warm-up, then half a cosine down to 0 over all steps."""
    ramp = min(1.0, (step + 1) / max(1, warmup))
    return ramp * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


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
