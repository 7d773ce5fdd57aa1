"""What a model reaches on what training kept apart: generated scenes, or packed photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from synseg_model.segmenter import Segmenter
from synseg_model.weights.model_folder import load_model
from training.datasets.photos.packed import read_packed
from training.evaluation.photos import BACKGROUND, image_logits, measure_photos
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
    network, _ = load_model(model)
    if decoder:
        network.decoder.load_state_dict(decoder)
    network.to(device).eval()
    text = TextEmbedder(network)
    about, photos = read_packed(Path(folder) / "held_out")
    results: dict = {"per_class": {}}
    for name in dict.fromkeys(photo.set for photo in photos if photo.kind == "masks"):
        found = [photo for photo in photos if photo.set == name][:count]
        names, background = about["exhaustive"][name], name in BACKGROUND
        matrix = measure_photos(
            lambda image, given: image_logits(network, image, text(list(given))), found, names, background, False
        )
        # A name that no photograph shows has an IoU of 0 where a model says it and none where it does not: the mean
        # would be over more names for one model than for the other.
        shown = [place for place in range(len(names)) if matrix.counts[place].any()]
        results[name] = round(matrix.mean_iou(shown), 1)
        results["per_class"][name] = {names[place]: round(100 * float(matrix.iou()[place]), 1) for place in shown}
    return results


def report(before: dict, after: dict) -> str:
    """Write what changed as a table."""
    rows = [f"{'mIoU (%)':<14}{'before':>8}{'after':>8}"]
    keys: Sequence[str] = [key for key, value in after.items() if isinstance(value, float)]
    return "\n".join(rows + [f"{key:<14}{before[key]:>8.1f}{after[key]:>8.1f}" for key in keys])
