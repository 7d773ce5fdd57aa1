"""What a model reaches on what training kept apart: generated scenes, or packed photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synseg_model.engine import Engine
from synseg_model.network.synseg import enlarge
from synseg_model.segmenter import Segmenter
from synseg_model.text.embedder import PromptEmbedder
from synseg_model.weights.model_folder import load_model
from training.datasets.photos.packed import read_packed
from training.evaluation.metrics import ConfusionMatrix
from training.evaluation.photos import BACKGROUND, image_logits, measure_photos, photo_truth
from training.evaluation.scenes import evaluate_scenes
from training.networks.text_embedding import TextEmbedder


def measure_on_scenes(
    model: str | Path, count: int, device: torch.device, seed: int, decoder: dict | None = None
) -> dict:
    """Measure a model on held-out scenes of a seed, see `training.evaluation.scenes`; decoder: weights for another."""
    segmenter = Segmenter.load(str(model), "torch", device.type)
    if decoder:
        segmenter.engine.network.decoder.load_state_dict(decoder)
    results, _ = evaluate_scenes(segmenter, count, seed=seed)
    return results


def measure_on_photographs(
    model: str | Path, count: int, device: torch.device, folder: str | Path, decoder: dict | None = None
) -> dict:
    """Measure a model on the held-out part of packed photographs; decoder: weights for another.

    count: photographs of each set, at most. Returns the mIoU of each set with masks in percent, all its names given,
    averaged over those that the photographs show, and "per_class". Raises ValueError where the folder has no such part.
    """
    results: dict = {"per_class": {}}
    logits = _network_logits(model, device, decoder)
    for name, (matrix, names, shown) in _count_photographs(logits, count, folder).items():
        # A name that no photograph shows has an IoU of 0 where a model says it and none where it does not: the mean
        # would be over more names for one model than for the other.
        results[name] = round(matrix.mean_iou([place for place, images in enumerate(shown) if images]), 1)
        results["per_class"][name] = {
            names[place]: round(100 * float(matrix.iou()[place]), 1) for place, images in enumerate(shown) if images
        }
    return results


def measure_classes(
    model: str | Path | Engine, device: torch.device, folder: str | Path, count: int = 0
) -> list[tuple[str, str, float, int]]:
    """Measure each class that the held-out part of packed photographs shows.

    Args:
        model: a shipped name or a model folder, for torch in fp32; or a loaded engine.
        device: where the network runs; an engine runs where it was loaded.
        folder: what `training.prepare_photos` wrote.
        count: photographs of each set, at most; 0 for all.

    Returns:
        (set, class, IoU in percent, number of photographs that show it), the best first.

    Raises:
        ValueError: The folder has no such part.
    """
    logits = _network_logits(model, device) if isinstance(model, (str, Path)) else _engine_logits(model)
    rows = [
        (name, names[place], round(100 * float(matrix.iou()[place]), 1), images)
        for name, (matrix, names, shown) in _count_photographs(logits, count or None, folder).items()
        for place, images in enumerate(shown)
        if images
    ]
    return sorted(rows, key=lambda row: -row[2])


def mean_of_sets(rows: Sequence[tuple[str, str, float, int]]) -> dict[str, float]:
    """Average what `measure_classes` returned over each set's classes: mIoU in percent, by set, in order of names."""
    return {
        name: round(float(np.mean([iou for of, _, iou, _ in rows if of == name])), 2)
        for name in sorted({of for of, _, _, _ in rows})
    }


Logits = Callable[[np.ndarray, Sequence[str]], Tensor]  # of an image (H,W,3) and K names: (K,H,W)


def _network_logits(model: str | Path, device: torch.device, decoder: dict | None = None) -> Logits:
    """Load a network for torch in fp32; returns what segments with it."""
    network, _ = load_model(model)
    if decoder:
        network.decoder.load_state_dict(decoder)
    network.to(device).eval()
    text = TextEmbedder(network)
    return lambda image, names: image_logits(network, image, text(list(names)))


def _engine_logits(engine: Engine) -> Logits:
    """Return what segments with an engine. Its activations become logits again, to be enlarged like the network's."""
    config = engine.config
    text = PromptEmbedder(engine.encode_text, config.templates, config.normalize_text)

    def logits(image: np.ndarray, names: Sequence[str]) -> Tensor:
        activations = torch.from_numpy(engine.activations([image], text.embed(list(names)))[0])
        return enlarge(torch.logit(activations, eps=1e-7)[None], image.shape[:2])[0]

    return logits


def _count_photographs(
    logits: Logits, count: int | None, folder: str | Path
) -> dict[str, tuple[ConfusionMatrix, Sequence[str], list[int]]]:
    """Count pixels of each set with masks: its matrix, its names, and how many photographs show each."""
    about, photos = read_packed(Path(folder) / "held_out")
    counted = {}
    for name in dict.fromkeys(photo.set for photo in photos if photo.kind == "masks"):
        found = [photo for photo in photos if photo.set == name][:count]
        names, background = about["exhaustive"][name], name in BACKGROUND
        matrix = measure_photos(logits, found, names, background, False)
        truths = [photo_truth(photo.decode()[1], photo.regions, names, background) for photo in found]
        present = Counter(place for truth in truths for place in np.unique(truth).tolist())
        counted[name] = matrix, names, [present[place] for place in range(len(names))]
    return counted


def report(before: dict, after: dict) -> str:
    """Write what changed as a table."""
    rows = [f"{'mIoU (%)':<14}{'before':>8}{'after':>8}"]
    keys: Sequence[str] = [key for key, value in after.items() if isinstance(value, float)]
    return "\n".join(rows + [f"{key:<14}{before[key]:>8.1f}{after[key]:>8.1f}" for key in keys])
