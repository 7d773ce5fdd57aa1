"""Compare objectives on scenes over several seeds: `python -m training.ablate`.

Every row is a run of `training.train` per seed, measured on held-out scenes of that seed; the first row is the decoder
that all but one start from. Runs that are finished are kept, a broken one goes on, so the same command can be repeated.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jsonargparse
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from synseg_model.engines.torch_engine import choose_device
from synseg_model.trainer import CollapseError
from training.objective import ObjectiveConfig
from training.train import TrainConfig, measure, train, write_json

matplotlib.use("Agg")

MEASURES = ("base", "novel", "stuff", "base_pairs", "novel_pairs")
START = "(i) mask-pre-trained decoder alone"
OURS = {"pairs": "distinct", "clamp": "straight-through"}
NO_MCCL = dict.fromkeys(("align", "cont", "back", "sep"), 0.0)

VARIANTS: dict[str, dict] = {
    "(ii) random initialisation + MCCL": {},
    "(iii) pre-trained + MCCL": {},
    "without align": {"align": 0.0},
    "without cont": {"cont": 0.0},
    "without back": {"back": 0.0},
    "without sep": {"sep": 0.0},
    "straight-through clamp, distinct pairs (ours)": OURS,
    "+ frozen CLIP features (ours)": {**OURS, "features": "frozen"},
    "+ presence of labels (ours)": {**OURS, "features": "frozen", "presence": 1.0},
    "presence alone (ours)": {**NO_MCCL, "presence": 1.0},
    "anchor to CLIP alone (ours)": {**NO_MCCL, "anchor": 1.0},
    "teacher alone (ours)": {**NO_MCCL, "teacher": 1.0},
    "teacher, every pixel named by the caption (ours)": {**NO_MCCL, "teacher": 1.0, "teacher_margin": 0.0},
    "teacher + presence (ours)": {**NO_MCCL, "teacher": 1.0, "presence": 0.1},
    "teacher + MCCL on frozen features (ours)": {**OURS, "features": "frozen", "teacher": 1.0},
}


@dataclass
class AblateConfig:
    """Settings of the comparison.

    Args:
        train: what all runs have in common; objective, seed and output are set by the comparison.
        seeds: of the runs, and of the scenes that each is measured on.
        variants: words that the names of the rows to run contain; empty for all rows.
        scenes: held-out scenes for each measure.
        output: folder for the runs, `ablation.json`, `ablation.md` and `ablation.png`.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    seeds: tuple[int, ...] = (0, 1, 2)
    variants: tuple[str, ...] = ()
    scenes: int = 60
    output: str = "runs/ablate"


def ablate(config: AblateConfig) -> dict[str, dict[int, dict]]:
    """Run what is missing; returns results by row and seed, and writes table and plot after every run."""
    output = Path(config.output)
    chosen = [n for n in VARIANTS if not config.variants or any(word in n for word in config.variants)]
    if not chosen:
        raise ValueError(f"no row's name contains any of {list(config.variants)}; rows: {list(VARIANTS)}")
    results: dict[str, dict[int, dict]] = {}
    for seed in config.seeds:
        for name in [START, *chosen]:
            file = output / f"seed{seed}" / _folder(name) / "measured.json"
            if file.exists():
                measured = json.loads(file.read_text())
            else:
                measured = _run(config, name, seed, file.parent)
                if measured is None:  # a signal ended the run; what is finished stands
                    return results
                write_json(file, measured)
            results.setdefault(name, {})[seed] = measured
            write_report(results, config, output)
            print(f"seed {seed}, {name}: " + ", ".join(f"{key} {measured[key]}" for key in MEASURES))
    return results


def _run(config: AblateConfig, name: str, seed: int, folder: Path) -> dict | None:
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device("auto")
    if name == START:
        return measure(config.train.model, config.scenes, device, seed)
    one = copy.deepcopy(config.train)
    one.trainer.seed, one.trainer.output, one.evaluate, one.resume = seed, str(folder), 0, True
    one.decoder = "random" if name.startswith("(ii)") else "pretrained"
    one.objective = ObjectiveConfig(**{**asdict(config.train.objective), **VARIANTS[name]})
    try:
        model = train(one)
    except (CollapseError, FloatingPointError) as error:  # that is a result, too
        return {**dict.fromkeys(MEASURES, float("nan")), "ended": str(error)}
    return model and measure(model, config.scenes, device, seed)


def write_report(results: dict[str, dict[int, dict]], config: AblateConfig, folder: Path) -> None:
    """Write numbers, table and plot of what is there so far."""
    write_json(folder / "ablation.json", {"settings": asdict(config), "results": results})
    (folder / "ablation.md").write_text(table(results))
    plot(results, folder / "ablation.png")


def summary(runs: dict[int, dict], key: str) -> tuple[float, float]:
    """Return mean and standard deviation over seeds (0 for one seed)."""
    values = np.array([run[key] for run in runs.values()], float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def table(results: dict[str, dict[int, dict]]) -> str:
    """Write mean ± deviation in percent of every row as Markdown."""
    lines = [f"| mIoU, % | seeds | {' | '.join(MEASURES)} |", "|---|---|" + "---|" * len(MEASURES)]
    for name, runs in results.items():
        cells = ["{:.1f} ± {:.1f}".format(*summary(runs, key)) for key in MEASURES]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(results: dict[str, dict[int, dict]], path: Path) -> None:
    """Draw base and novel mIoU of every row with their deviations; a line marks where all start."""
    names = list(results)
    figure = Figure(figsize=(8, 1 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(names))
    for offset, key, color in ((-0.2, "base", "tab:gray"), (0.2, "novel", "tab:blue")):
        means, deviations = zip(*(summary(results[name], key) for name in names), strict=True)
        axes.barh(rows + offset, means, 0.4, xerr=deviations, label=f"{key} nouns", color=color)
        axes.axvline(means[0], color=color, linestyle=":", linewidth=1)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel("mIoU on held-out scenes, %")
    axes.legend()
    figure.savefig(path, dpi=120)


def _folder(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")


def run() -> int:
    """Read the command line and compare; returns 0, or 2 for what the user can put right."""
    try:
        ablate(jsonargparse.auto_cli(AblateConfig, as_positional=False, print_config="--print-config"))
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run())
