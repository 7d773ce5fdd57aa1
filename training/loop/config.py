"""Settings of the training loop, which every training program has as `--trainer.*`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class TrainerConfig:
    """Settings of the loop.

    Args:
        output: folder for checkpoints, the log, TensorBoard events and the finished model.
        steps: optimizer steps.
        max_minutes: minutes after which the run stops with a checkpoint; 0 for no limit. The same command with --resume
            continues it to the same bits.
        budget_minutes: minutes of training after which the run is finished, where that is before `steps`; 0 for no
            budget. The learning rates fall over this time.
        batch: images (or phrases) of one step, over all processes and accumulated parts.
        accumulate: parts in which a process computes its share of a batch, to save memory.
        accelerator: cpu, cuda, mps, or auto for a GPU where there is one.
        devices: processes on this machine. Each has its own GPU, where there are GPUs.
        nodes: machines. Start the same command on each with `torchrun` or `fabric run`.
        precision: 32-true, bf16-mixed, 16-mixed, auto or fast. auto is bf16-mixed on GPUs that have it, and 32-true
            elsewhere. fast is bf16-mixed also on CPUs that have instructions for it; their numbers differ from those of
            other CPUs.
        optimizer: adamw, or muon for the matrices of transformer blocks with AdamW for the rest.
        betas: AdamW's decays of its averages of the gradient and of the squared gradient, each below 1.
        learning_rate: highest learning rate of pre-trained layers, such as the decoder.
        new_learning_rate: highest learning rate of layers that start with random weights.
        weight_decay: weight decay of matrices; vectors have none.
        warmup: steps over which the rates rise. They then fall along half a cosine.
        least_rate: share of the rates below which the cosine does not fall, from 0 to 1.
        clip_norm: largest norm of a step's gradient.
        ema: decay of the moving average of the weights, which the finished model holds; 0 for no average.
        save_every: steps between checkpoints.
        validate_every: steps between measurements on held-out images, where the program has some; 0 for none.
        log_every: steps between lines of the log.
        image_every: steps between images in TensorBoard; 0 for none.
        patience: steps for which activation maps may say nothing before the run ends; 0 never ends it.
        seed: seed of the order of the data, of augmentation and of new layers.
    """

    output: str = "runs/train"
    steps: int = 300
    max_minutes: float = 0.0
    budget_minutes: float = 0.0
    batch: int = 16
    accumulate: int = 1
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "auto"
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    learning_rate: float = 1e-4
    new_learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 50
    least_rate: float = 0.0
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
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer is {self.optimizer!r}: expected 'adamw' or 'muon'")
        if self.budget_minutes < 0 or self.max_minutes < 0:
            raise ValueError(
                f"budget_minutes is {self.budget_minutes}, max_minutes {self.max_minutes}: expected 0 or more of each"
            )
