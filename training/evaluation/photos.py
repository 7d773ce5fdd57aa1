"""How well a network in training segments photographs that training does not see, by the names of each data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from synseg_model.network.synseg import SynSeg, enlarge
from synseg_model.preprocess import resize_frame
from training.datasets.photo_batches import Words
from training.datasets.photos import UNLABELLED
from training.datasets.photos.packed import Packed
from training.evaluation.metrics import IGNORE, ConfusionMatrix

BACKGROUND = {"voc", "coco", "clothing"}  # sets where a pixel may be none of the names


def photo_truth(index_map: np.ndarray, regions: Sequence[Sequence[str]], names: Sequence[str], background: bool):
    """Return class indices (H,W) uint8: the first of `names` that is true of a pixel; IGNORE where nothing is known.

    With `background` the class len(names) is for pixels that are none of the names; without, they are ignored.
    """
    places = {name: place for place, name in enumerate(names)}
    table = np.full(UNLABELLED + 1, IGNORE, np.uint8)
    for number, true in enumerate(regions):
        known = [places[name] for name in true if name in places]
        table[number] = known[0] if known else len(names) if background else IGNORE
    table[UNLABELLED] = IGNORE
    return table[index_map]


def measure_photos(
    logits: Callable[[np.ndarray, Sequence[str]], Tensor],
    photos: Sequence[Packed],
    names: Sequence[str],
    background: bool,
    present_only: bool,
) -> ConfusionMatrix:
    """Segment photographs and count pixels by class.

    logits: of an image (H,W,3) and names: (K,H,W). present_only: give only the names that the image has. A pixel takes
    the label with the largest logit, or none where all are below 0 and the set has background.
    """
    matrix = ConfusionMatrix(len(names) + background)
    for photo in photos:
        image, index_map = photo.decode()
        truth = photo_truth(index_map, photo.regions, names, background)
        given = list(range(len(names)))
        if present_only:
            given = [place for place in np.unique(truth) if place < len(names)]
        if not given:
            continue
        maps = logits(image, [names[place] for place in given])
        best, winner = maps.max(dim=0)
        prediction = torch.tensor(given, device=winner.device)[winner]
        if background:
            prediction[best < 0] = len(names)
        matrix.update(prediction.cpu().numpy(), truth)
    return matrix


def validator(
    network: SynSeg,
    photos: Sequence[Packed],
    exhaustive: dict[str, Sequence[str]],
    words: Words,
    most: int,
) -> Callable[[nn.Module], dict[str, float]] | None:
    """Return a function that measures averaged weights on held-out photographs: mIoU in percent for every set.

    most: photographs of a set. "score" is the mean over rooms, streets and objects. None where none is held out.
    """
    sets = {name: [photo for photo in photos if photo.set == name][:most] for name in ("nyu", "camvid", "voc")}
    sets = {name: found for name, found in sets.items() if found}
    if not sets:
        return None

    def validate(averaged: nn.Module) -> dict[str, float]:
        logits = logits_of(network, averaged, words)
        measured = {}
        for name, found in sets.items():
            classes = [n for n in exhaustive[name] if n in words.names]
            matrix = measure_photos(logits, found, classes, name in BACKGROUND, name in BACKGROUND)
            measured[name] = matrix.mean_iou(range(len(classes)))
        return {**measured, "score": float(np.mean(list(measured.values())))}

    return validate


def detailed_results(
    network: SynSeg,
    averaged: nn.Module,
    photos: Sequence[Packed],
    exhaustive: dict[str, Sequence[str]],
    words: Words,
) -> dict[str, dict]:
    """Measure every set with masks, with all its names given and with those present alone.

    Returns mIoU, pixel accuracy and the IoU of each class, in percent.
    """
    logits, results = logits_of(network, averaged, words), {}
    for name in dict.fromkeys(photo.set for photo in photos if photo.kind == "masks"):
        found = [photo for photo in photos if photo.set == name]
        classes = [n for n in exhaustive[name] if n in words.names]
        for present_only in (False, True):
            matrix = measure_photos(logits, found, classes, name in BACKGROUND, present_only)
            results[f"{name}{' present' if present_only else ''}"] = {
                "photographs": len(found),
                "miou": round(matrix.mean_iou(range(len(classes))), 2),
                "pixel_accuracy": round(matrix.pixel_accuracy(), 2),
                "iou": {n: round(100 * v, 1) for n, v in zip(classes, matrix.iou().tolist(), strict=False) if v == v},
            }
    return results


def logits_of(network: SynSeg, averaged: nn.Module, words: Words) -> Callable[[np.ndarray, Sequence[str]], Tensor]:
    """Return a function that segments as `photo_logits` does, of an image and names."""
    device = next(averaged.parameters()).device
    return lambda image, names: photo_logits(network, averaged, image, names, words, device)


@torch.inference_mode()
def photo_logits(
    network: SynSeg, averaged: nn.Module, image: np.ndarray, names: Sequence[str], words: Words, device: torch.device
) -> Tensor:
    """Segment an image (H,W,3) with weights apart from the network's own; returns logits (K,H,W) at its size."""
    text = torch.from_numpy(words.texts[[words.names[name] for name in names]]).to(device)
    decoder = averaged["decoder"]
    logits = decoder(decoder.reduce(averaged["image"](network_input(network, image, device))), text[None])
    return enlarge(logits, image.shape[:2])[0]


@torch.inference_mode()
def image_logits(network: SynSeg, image: np.ndarray, text: Tensor) -> Tensor:
    """Segment an image (H,W,3) for text embeddings (K,C) on the network's device; returns logits (K,H,W)."""
    return enlarge(network.maps(network_input(network, image, text.device), text), image.shape[:2])[0]


def network_input(network: SynSeg, image: np.ndarray, device: torch.device) -> Tensor:
    """Resize an image (H,W,3) uint8 to the input that a network's config asks for and normalise it: (1,3,h,w)."""
    config = network.config.image
    pixels = torch.from_numpy(resize_frame(image, config, network.encoder.patch)).to(device)
    mean, std = (torch.tensor(values, device=device) for values in (config.mean, config.std))
    return ((pixels / 255 - mean) / std).permute(2, 0, 1)[None]
