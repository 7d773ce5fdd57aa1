"""What a run shows while it trains: a progress bar, `log.jsonl` for programs, TensorBoard for people.

TensorBoard is Fabric's logger. The lines of JSON are our own: Fabric's CSVLogger writes one table of fixed columns from
the start of a process, where a run that goes on has to keep the lines before and drop those that it repeats.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
from lightning_fabric.loggers import TensorBoardLogger
from tqdm import tqdm

from synseg_model.files import write_whole

LOG_FILE = "log.jsonl"


class TrainingLog:
    """Log one process's run of a training."""

    def __init__(self, output: Path, start: int, steps: int, batch: int, every: int):
        """Open the log.

        Args:
            output: folder of the run.
            start: the first step of this process; of an earlier one's lines those before it stay.
            steps: of the whole run.
            batch: images of a step.
            every: steps between lines.
        """
        self.batch, self.every = batch, every
        path = output / LOG_FILE
        kept = []
        if start and path.exists():  # a killed run may have logged steps that it will now repeat
            kept = [line for line in path.read_text().splitlines(keepends=True) if _logged_step(line) < start]
        write_whole(path, lambda file: file.write("".join(kept).encode()))
        self.file = path.open("a", buffering=1)
        self.board = TensorBoardLogger(output, name="", version="", purge_step=start or None)
        self.bar = tqdm(total=steps, initial=start, desc="training", unit="step", mininterval=1)
        self.since, self.steps, self.waited = time.perf_counter(), 0, 0.0

    def step(
        self, step: int, values: dict[str, float], waited: float, more: dict[str, float], last: bool = False
    ) -> None:
        """Count a step; every so many, and of the last one, write what it did.

        Args:
            step: its number, from 0.
            values: what the objective returned.
            waited: seconds for which the step waited for data.
            more: further values to write.
            last: whether this is the last step of the run.
        """
        self.steps += 1
        self.waited += waited
        self.bar.update()
        if (step + 1) % self.every and not last:
            return
        spent = time.perf_counter() - self.since
        speed = {"images_per_second": self.steps * self.batch / spent, "data_wait": self.waited / spent}
        self._write(step, {**values, **more, **speed})
        self.bar.set_postfix(loss=f"{values['total']:.3f}", images=f"{speed['images_per_second']:.1f}/s")
        self.since, self.steps, self.waited = time.perf_counter(), 0, 0.0

    def validation(self, step: int, values: dict[str, float]) -> None:
        """Log what a model in training reaches on held-out images."""
        self._write(step, {f"validation/{name}": value for name, value in values.items()})
        self.bar.write(f"step {step + 1}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def _write(self, step: int, values: dict[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.board.log_metrics(values, step)

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Show images (H,W,3) uint8 in TensorBoard."""
        for name, image in images.items():
            self.board.experiment.add_image(name, image, step, dataformats="HWC")

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_error: object) -> None:
        self.bar.close()
        self.file.close()
        self.board.finalize("finished")


def _logged_step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # the last line of a killed run may be cut off
        return math.inf
