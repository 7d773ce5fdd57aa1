"""Measure what a model's threshold means: `python -m training.calibrate --model MODEL --photos runs/photos`.

A name that is not in an image should stay silent. The program reads held-out photographs, and asks for every name that
their sets label wherever it occurs. At each threshold it counts the absent names that show more than a hundredth of the
image, and the precision and recall of all pixels. It writes a plot and JSON, and prints which threshold keeps absent
names silent.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from tqdm import tqdm

from synseg_model.files import write_json
from synseg_model.network.synseg import SynSeg, enlarge
from synseg_model.weights.model_folder import load_model
from training.datasets.photos.packed import Packed, read_packed
from training.evaluation.metrics import IGNORE
from training.evaluation.photos import BACKGROUND, network_input, photo_truth
from training.loop.command_line import run_program
from training.networks.text_embedding import embed_phrases

matplotlib.use("Agg")
from matplotlib import pyplot

THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
SILENT = 0.01  # of an image: what an absent name may show


@dataclass
class CalibrateConfig:
    """What to measure.

    Args:
        model: a model folder or a shipped name.
        photos: folder that `training.prepare_photos` wrote. The held-out part is read.
        output: folder for `thresholds.json` and `thresholds.png`.
        sets: data sets to read.
        most: most photographs of each set.
        accepted: share of absent names that may show something, from 0 to 1.
    """

    model: str = "synseg-everyday"
    photos: str = "runs/photos"
    output: str = "runs/calibration"
    sets: tuple[str, ...] = ("nyu", "camvid", "voc", "coco")
    most: int = 60
    accepted: float = 0.1


def measure(network: SynSeg, photos: list[Packed], names: list[str], background: bool) -> dict[str, np.ndarray]:
    """Count for every threshold the absent names that show something, and the pixels right, said and true."""
    text = torch.from_numpy(embed_phrases(network, names))
    counts = {key: np.zeros(len(THRESHOLDS)) for key in ("shown", "right", "said", "true")}
    absent_names = 0
    for photo in tqdm(photos, unit="image", mininterval=1):
        image, index_map = photo.decode()
        truth = photo_truth(index_map, photo.regions, names, background)
        with torch.inference_mode():  # activations are what is resampled, as engines do
            maps = network.maps(network_input(network, image, text.device), text).sigmoid()
            maps = enlarge(maps, truth.shape)[0].numpy()
        here = np.isin(np.arange(len(names)), truth)
        true_names = {name for region in photo.regions for name in region}
        absent = [k for k, name in enumerate(names) if name not in true_names]
        absent_names += len(absent)
        known = truth != IGNORE
        masks = np.stack([truth == k for k in range(len(names))]) & known
        counts["true"] += masks[here].sum()
        for place, threshold in enumerate(THRESHOLDS):
            said = maps >= threshold
            counts["shown"][place] += (said[absent].mean(axis=(1, 2)) > SILENT).sum()
            said &= known
            counts["right"][place] += (said & masks).sum()
            counts["said"][place] += said.sum()
    return {**counts, "absent": np.full(len(THRESHOLDS), absent_names)}


def calibrate(config: CalibrateConfig) -> dict:
    """Measure every set, write plot and JSON, and return what the JSON holds."""
    network, _ = load_model(config.model)
    about, photos = read_packed(Path(config.photos) / "held_out")
    results: dict[str, dict] = {}
    total: dict[str, np.ndarray] = {}
    for name in config.sets:
        found = [photo for photo in photos if photo.set == name][: config.most]
        if not found:
            continue
        counts = measure(network, found, list(about["exhaustive"][name]), name in BACKGROUND)
        total = {key: total.get(key, 0) + value for key, value in counts.items()}
        results[name] = rates(counts)
    if not total:
        held_out = ", ".join(dict.fromkeys(photo.set for photo in photos if photo.kind == "masks")) or "none"
        raise ValueError(f"sets {', '.join(config.sets)}: no photograph of them is held out; there are {held_out}")
    results["all"] = rates(total)
    shown = results["all"]["absent_shown"]
    silent = [t for t, share in zip(THRESHOLDS.tolist(), shown, strict=True) if share < config.accepted]
    results["threshold"] = silent[0] if silent else None
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "thresholds.json", results, indent=1)
    plot(results, output / "thresholds.png")
    return results


def rates(counts: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Turn counts into the share of absent names that show something, precision and recall, one number a threshold."""
    return {
        "absent_shown": (counts["shown"] / np.maximum(counts["absent"], 1)).round(4).tolist(),
        "precision": (counts["right"] / np.maximum(counts["said"], 1)).round(4).tolist(),
        "recall": (counts["right"] / np.maximum(counts["true"], 1)).round(4).tolist(),
    }


def plot(results: dict, path: Path) -> None:
    """Draw precision, recall and absent names shown over the threshold, all sets together and one by one."""
    sets = [name for name in results if isinstance(results[name], dict)]
    figure, axes = pyplot.subplots(1, len(sets), figsize=(3.4 * len(sets), 3), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], sets, strict=True):
        for key, label in (("precision", "precision"), ("recall", "recall"), ("absent_shown", "absent names shown")):
            axis.plot(THRESHOLDS, results[name][key], label=label)
        axis.set(title=name, xlabel="threshold", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def report(config: CalibrateConfig) -> None:
    """Measure and print a row for each threshold."""
    results = calibrate(config)
    print("threshold  absent shown  precision  recall")
    for row in zip(THRESHOLDS, *(results["all"][k] for k in ("absent_shown", "precision", "recall")), strict=True):
        print("{:9.2f}{:14.3f}{:11.3f}{:8.3f}".format(*row))
    print(f"lowest threshold that keeps absent names silent: {results['threshold']}")


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and measure; returns 0, or 2 for what the user can put right."""
    return run_program(CalibrateConfig, report, arguments)


if __name__ == "__main__":
    sys.exit(run())
