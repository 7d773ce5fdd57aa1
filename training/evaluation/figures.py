"""Plots of an evaluation: bars, confusion matrix, threshold curve, and one image at several thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

INK, QUIET, BAR, MARK = "#2d2d2d", "#9a9a9a", "#3d6fb4", "#d1495b"
_DPI = 110


def class_bars(names: Sequence[str], iou: np.ndarray, path: Path, title: str = "") -> Path:
    """Draw a bar per class that occurs, best first, with the mean as a line.

    iou: (C,) in [0, 1], nan for classes that do not occur.
    """
    order = [int(i) for i in np.argsort(-np.nan_to_num(iou, nan=-1.0), kind="stable") if np.isfinite(iou[i])]
    values = [100 * float(iou[i]) for i in order]
    rows = max(1, len(order))
    figure = Figure(figsize=(7.2, 1.3 + 0.21 * rows), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(order)), values, color=BAR, height=0.72)
    axes.set_yticks(range(len(order)), [names[i] for i in order], fontsize=8)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, max([10.0, *(1.12 * value for value in values)]))
    for row, value in enumerate(values):
        axes.annotate(
            f"{value:.1f}", (value, row), (3, 0), textcoords="offset points", va="center", fontsize=7, color=INK
        )
    if values:
        mean = float(np.mean(values))
        axes.axvline(mean, color=MARK, linewidth=1.2)
        # At the bottom, where bars are shortest and leave room.
        axes.annotate(
            f"mean {mean:.1f}", (mean, 0), (4, 5), xycoords=("data", "axes fraction"), textcoords="offset points",
            va="bottom", fontsize=8, color=MARK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.set_xlabel("IoU, %", fontsize=9)
    _tidy(axes, title)
    return _save(figure, path)


def confusion(names: Sequence[str], counts: np.ndarray, path: Path, title: str = "") -> Path:
    """Draw which class the pixels of each class were given, as shares of its row.

    counts: (C,C) or (C,C+1), rows truth, columns prediction. Classes without truth are left out as rows.
    """
    counts = counts[:, : len(names)]
    rows = np.flatnonzero(counts.sum(axis=1))
    shares = 100 * counts[rows] / np.maximum(1, counts[rows].sum(axis=1, keepdims=True))
    columns = np.flatnonzero(counts.sum(axis=0) | counts.sum(axis=1))
    shares = shares[:, columns]
    width, height = (max(4.2, 2.6 + 0.2 * n) for n in (len(columns), len(rows)))
    figure = Figure(figsize=(width + 0.8, height), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(columns)), [names[i] for i in columns], rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), [names[i] for i in rows], fontsize=7)
    if max(shares.shape, default=0) <= 25:
        for y, x in np.argwhere(shares >= 0.5):
            ink = "white" if shares[y, x] > 60 else INK
            axes.text(x, y, f"{shares[y, x]:.0f}", ha="center", va="center", fontsize=6, color=ink)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("truth", fontsize=9)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("share of the class's pixels, %", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    return _save(figure, path)


def threshold_curve(curve: dict[float, float], chosen: float, path: Path, title: str = "") -> Path:
    """Draw mean IoU over the threshold of background and mark the chosen one."""
    figure = Figure(figsize=(5.6, 3.4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(list(curve), list(curve.values()), color=BAR, marker="o", markersize=3.5, linewidth=1.4)
    axes.axvline(chosen, color=MARK, linewidth=1.2)
    axes.annotate(
        f"{chosen:g}: {curve[chosen]:.1f}", (chosen, 1), (4, -4), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=8, color=MARK,
    )  # fmt: skip
    axes.set_ylim(0, 1.15 * max([1.0, *curve.values()]))
    axes.set_xlabel("activation threshold of background", fontsize=9)
    axes.set_ylabel("mIoU on the tuning images, %", fontsize=9)
    _tidy(axes, title)
    return _save(figure, path)


def label_thresholds(
    image: np.ndarray,
    names: Sequence[str],
    truths: np.ndarray,
    activations: np.ndarray,
    path: Path,
    thresholds: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    title: str = "",
) -> Path:
    """Show one image: a row per label with its true mask, its activation, and its mask at each threshold.

    image: (H,W,3) uint8. truths: (K,H,W) bool. activations: (K,H,W) in [0, 1]. As figure 3 of arXiv 2508.06115 shows
    that thresholds decide how much a label takes.
    """
    columns, aspect = 2 + len(thresholds), image.shape[0] / image.shape[1]
    figure = Figure(figsize=(1.75 * columns + 0.9, 1.75 * aspect * len(names) + 0.7), dpi=_DPI, layout="constrained")
    grid = figure.subplots(len(names), columns, squeeze=False)
    heads = ["truth", "activation", *(f"≥ {threshold:g}" for threshold in thresholds)]
    for row, name in enumerate(names):
        heat = cv2.applyColorMap((activations[row] * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)[:, :, ::-1]
        panels = [spotlight(image, truths[row]), cv2.addWeighted(image, 0.35, np.ascontiguousarray(heat), 0.65, 0)]
        panels += [spotlight(image, activations[row] >= threshold) for threshold in thresholds]
        for column, panel in enumerate(panels):
            axes = grid[row, column]
            axes.imshow(panel)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(heads[column], fontsize=9, color=INK)
        grid[row, 0].set_ylabel(f"{name}\nmax {activations[row].max():.2f}", fontsize=9, color=INK)
    figure.suptitle(title, fontsize=10, color=INK)
    return _save(figure, path)


def spotlight(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Keep an image's colours inside a mask (H,W) bool and fade the rest to a pale grey, with a line around."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None].repeat(3, axis=2)
    shown = np.where(mask[:, :, None], image, (grey // 4 + 168).astype(np.uint8))
    reach = max(1, round(min(mask.shape) / 200))
    edge = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2 * reach + 1,) * 2, np.uint8))
    shown[edge.astype(bool) & mask] = (209, 73, 91)
    return shown


def _tidy(axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, facecolor="white")
    return path
