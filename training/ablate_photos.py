"""Measure what captions teach where no mask does: `python -m training.ablate_photos`.

The masks of some names are hidden in all runs. The runs differ in the terms of images with captions. One table shows
which of the terms teaches these names, over several seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

from tqdm import tqdm

from synseg_model.files import write_json, write_whole
from training.loop.command_line import run_program

ARMS = {
    "masks only": {"image": 0.0, "spread": 0.0},
    "+ captions": {},
    "+ captions and MCCL": {"mccl": 0.1},
    "+ MCCL alone": {"image": 0.0, "spread": 0.0, "mccl": 0.1},
    "+ captions and their masks": {"teacher": 0.5},
}


@dataclass
class AblatePhotosConfig:
    """What to compare.

    Args:
        photos: folder that `training.prepare_photos` wrote.
        text: folder that `training.pretrain_text` wrote.
        weights: ImageNet weights, as `training.pretrain_photos` takes them.
        output: folder for the runs, `results.json` and `table.md`.
        hidden: names of VOC whose masks no run sees.
        seeds: number of runs of each arm.
        parallel: runs at the same time. Many fit on a GPU.
        steps: steps of each run.
        batch: crops of a step.
        size: side of the crops in pixels.
        workers: reading processes of each run.
        settings: other settings of every run, by their names on the command line of `training.pretrain_photos`.
    """

    photos: str = "runs/photos"
    text: str = "runs/text"
    weights: str = ""
    output: str = "runs/captions"
    hidden: tuple[str, ...] = ("dog", "horse", "cat", "sheep")
    seeds: int = 3
    parallel: int = 1
    steps: int = 2_000
    batch: int = 24
    size: int = 224
    workers: int = 1
    settings: dict[str, str] = field(default_factory=dict)


def command(config: AblatePhotosConfig, arm: str, seed: int, output: Path) -> list[str]:
    """Return the command of one run."""
    settings = {
        "photos": config.photos, "text": config.text, "weights": config.weights, "checks": 20,
        "trainer.output": output, "trainer.steps": config.steps, "trainer.batch": config.batch, "trainer.seed": seed,
        "trainer.warmup": 100, "trainer.ema": 0.99, "trainer.validate_every": 0, "trainer.image_every": 0,
        "trainer.save_every": config.steps, "mixture.size": config.size, "mixture.workers": config.workers,
        "mixture.hidden": json.dumps(list(config.hidden)), "resume": "true",
    }  # fmt: skip
    settings |= config.settings | {f"terms.{name}": value for name, value in ARMS[arm].items()}
    values = (f"--{name}={value}" for name, value in settings.items())
    return [sys.executable, "-m", "training.pretrain_photos", *values]


def ablate(config: AblatePhotosConfig) -> str:
    """Run what is missing and return the table; a run that is finished is not repeated."""
    output = Path(config.output)
    # Seed by seed: whoever stops early has every arm.
    runs = {(arm, seed): output / f"{number}-{seed}" for seed in range(config.seeds) for number, arm in enumerate(ARMS)}
    waiting = [run for run, folder in runs.items() if not (folder / "results.json").exists()]
    running: dict[tuple[str, int], subprocess.Popen] = {}
    with tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="runs", unit="run") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < config.parallel:
                    run = waiting.pop(0)
                    runs[run].mkdir(parents=True, exist_ok=True)
                    with open(runs[run] / "log.txt", "w") as log:
                        running[run] = subprocess.Popen(command(config, *run, runs[run]), stdout=log, stderr=log)
                time.sleep(0.5)
                for run in [run for run, process in running.items() if process.poll() is not None]:
                    if running.pop(run).returncode:
                        raise ValueError(f"the run {run[0]!r}, seed {run[1]} failed: see {runs[run] / 'log.txt'}")
                    bar.update()
        finally:
            for process in running.values():  # they save and end: the same command goes on from there
                process.terminate()
            for process in running.values():
                process.wait()
    found = {run: json.loads((folder / "results.json").read_text()) for run, folder in runs.items()}
    text = table(config, found)
    results = {f"{arm}, seed {seed}": value for (arm, seed), value in found.items()}
    write_json(output / "results.json", results, indent=1)
    write_whole(output / "table.md", lambda file: file.write(text.encode()))
    return text


def table(config: AblatePhotosConfig, found: dict[tuple[str, int], dict]) -> str:
    """Write the means and standard deviations over seeds as a Markdown table, IoU in percent."""
    columns = [(name, part) for name in config.hidden for part in ("voc", "voc present")]
    lines = ["| terms | " + " | ".join(f"{n}, {'all' if p == 'voc' else 'present'}" for n, p in columns)
             + " | other VOC | NYU40 |", "|---" * (len(columns) + 3) + "|"]  # fmt: skip
    for arm in ARMS:
        runs = [value for (name, _), value in found.items() if name == arm]
        cells = [[run[part]["iou"].get(name, 0.0) for run in runs] for name, part in columns]
        cells.append([mean(v for n, v in run["voc"]["iou"].items() if n not in config.hidden) for run in runs])
        cells.append([run["nyu"]["miou"] for run in runs])
        spread = [f"{mean(values):.1f} ± {stdev(values) if len(values) > 1 else 0:.1f}" for values in cells]
        lines.append(f"| {arm} | " + " | ".join(spread) + " |")
    return "\n".join(lines) + "\n"


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and compare; returns 0, or 2 for what the user can put right."""
    return run_program(AblatePhotosConfig, lambda config: print(ablate(config)), arguments)


if __name__ == "__main__":
    sys.exit(run())
