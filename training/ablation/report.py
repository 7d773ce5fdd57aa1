"""Tables and plots of a comparison over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from training.ablation.rows import START, Row

MEASURES = ("base", "novel", "stuff", "base_pairs", "novel_pairs", "base_boundary", "novel_boundary")
Results = dict[str, dict[int, dict]]  # row, seed → measures


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation over seeds (0 for one seed)."""
    array = np.array(values, float)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def summary(runs: dict[int, dict], key: str) -> tuple[float, float]:
    """Return mean and standard deviation of a measure over the seeds of a row."""
    return spread([run[key] for run in runs.values()])


def difference(runs: dict[int, dict], others: dict[int, dict], key: str) -> tuple[float, float] | None:
    """Return mean and deviation of what a row gains over another on the same seed; None where they share no seed.

    Both were measured on the same scenes, so what the scenes of a seed change is in neither number.
    """
    shared = [seed for seed in runs if seed in others]
    return spread([runs[seed][key] - others[seed][key] for seed in shared]) if shared else None


def tables(rows: Sequence[Row], results: Results, costs: dict[str, dict[str, float]]) -> str:
    """Write Markdown: every row's measures and cost, then what each gains over the row that it is beside.

    costs: milliseconds by row and kind, "step" (training, per image) and "frame".
    """
    rows = [row for row in rows if row.name in results]
    lines = [_line("%, mean ± deviation", "seeds", *MEASURES, "ms/image, training step", "ms/frame, 40 labels")]
    lines.append("|---" * (len(MEASURES) + 4) + "|")
    for row in rows:
        runs, cost = results[row.name], costs.get(row.name, {})
        cells = ["{:.1f} ± {:.1f}".format(*summary(runs, key)) for key in MEASURES]
        spent = [f"{cost[kind]:.0f}" if kind in cost else "" for kind in ("step", "frame")]
        lines.append(_line(row.name, len(runs), *cells, *spent))
    lines += ["", _line("difference on the same seed and scenes", "to", *MEASURES)]
    lines.append("|---" * (len(MEASURES) + 2) + "|")
    for row in rows:
        for other in dict.fromkeys((row.beside, START.name)):
            if other == row.name or other not in results:
                continue
            pairs = [difference(results[row.name], results[other], key) for key in MEASURES]
            lines.append(_line(row.name, other, *("{:+.1f} ± {:.1f}".format(*pair) if pair else "" for pair in pairs)))
    return "\n".join(lines) + "\n"


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def plot(rows: Sequence[Row], results: Results, path: Path) -> None:
    """Draw base and novel mIoU of every row with their deviations; a line marks where all start."""
    rows = [row for row in rows if row.name in results]
    figure = Figure(figsize=(8, 1 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))
    for offset, key, color in ((-0.2, "base", "tab:gray"), (0.2, "novel", "tab:blue")):
        means, deviations = zip(*(summary(results[row.name], key) for row in rows), strict=True)
        axes.barh(places + offset, means, 0.4, xerr=deviations, label=f"{key} nouns", color=color)
        axes.axvline(means[0], color=color, linestyle=":", linewidth=1)
    axes.set_yticks(places, [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("mIoU on held-out scenes, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.savefig(path, dpi=120)
