"""Evaluate one model on one data set, from folders to a report."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from synseg_model.engines.load import load_engine
from synseg_model.engines.torch import TorchEngine
from training.datasets.photos import held_out
from training.evaluation.measure import Measured, measure
from training.evaluation.predict import Predictor, PredictSettings
from training.evaluation.prompts import embed_names
from training.evaluation.protocols import Protocol
from training.evaluation.samples import EvaluationSample
from training.evaluation.sweep import best_threshold, check_disjoint, sweep


@dataclass(frozen=True)
class Request:
    """What to measure.

    root: folder of the data set. split, tune_split: None for the protocol's. images: at most so many, evenly spread
    over the split; 0 for all. prompts, aliases: see `training.evaluation.prompts` and `ClassList.queries`. threshold:
    activation of the background channel, None for the model's own. sweep: choose it on `tune_images` images of
    the tuning split instead. share, share_seed: only the images that training with this share and seed keeps apart
    (`training.datasets.photos.held_out`), 0 for all. present: ask each image for the classes in its truth alone.
    """

    root: Path
    split: str | None = None
    images: int = 0
    prompts: str = "single"
    aliases: bool = False
    threshold: float | None = None
    sweep: bool = False
    tune_split: str | None = None
    tune_images: int = 200
    share: float = 0.0
    share_seed: int = 0
    present: bool = False
    predict: PredictSettings = field(default_factory=PredictSettings)


@dataclass
class Evaluation:
    """Everything that the report is made of: the result for JSON, the counts, and what draws the figures.

    curve: mean IoU per threshold where one was tuned.
    """

    result: dict
    measured: Measured
    predictor: Predictor
    samples: list[EvaluationSample]
    threshold: float | None
    curve: dict[float, float] | None


def spread(samples: list[EvaluationSample], count: int) -> list[EvaluationSample]:
    """Take `count` samples evenly from a list, all of them for 0 or where there are no more."""
    if count < 0:
        raise ValueError(f"images {count}: expected 0 for all, or how many to take")
    if not count or count >= len(samples):
        return samples
    return [samples[i * len(samples) // count] for i in range(count)]


def evaluate_dataset(protocol: Protocol, model: str, request: Request, device: str = "auto") -> Evaluation:
    """Load the data set and the model, tune the threshold if asked, and count.

    Raise ValueError for anything that does not fit, before the model is loaded where that is possible.
    """
    split = request.split or protocol.split
    found, bare = protocol.tree.samples(request.root, split)
    samples, tuning = spread(_apart(found, request), request.images), []
    if request.threshold is not None and not 0 <= request.threshold <= 1:
        raise ValueError(f"threshold {request.threshold}: expected an activation from 0 to 1")
    if not protocol.background and (request.sweep or request.threshold is not None):
        raise ValueError(
            f"{protocol.name} has no background, so no threshold changes its result: leave out --sweep and --threshold"
        )
    if request.sweep:
        if request.threshold is not None:
            raise ValueError("--sweep chooses the threshold: leave out --threshold, or --sweep")
        tuning = _tuning_samples(protocol, request, samples, bare)
    classes = protocol.class_list()
    queries, owners = classes.queries(request.aliases)
    engine = load_engine(model, "torch", device)
    text = embed_names(engine, queries, request.prompts)
    predictor = Predictor(engine, text, owners, request.predict)
    names = protocol.labels()
    threshold, curve, source = None, None, "no background"
    if protocol.background:
        threshold, source = engine.config.threshold, "the model's own"
        if request.threshold is not None:
            threshold, source = request.threshold, "the command line"
        if tuning:
            curve = sweep(predictor, tuning, len(names), present=request.present)
            threshold = best_threshold(curve)
            source = f"tuned on {len(tuning)} images of split {request.tune_split or protocol.tune_split}"
    measured = measure(predictor, samples, len(names), threshold, f"{protocol.name} {split}", request.present)
    result = summary(protocol, split, names, measured) | {
        "images_asked": len(samples),
        # A copy without lists of splits is a sample, and another split is another measurement.
        "whole_split": split == protocol.split and not bare and len(samples) == (protocol.images or len(found)),
        "threshold": threshold,
        "threshold_from": source,
        "threshold_curve": None if curve is None else {f"{t:g}": round(miou, 2) for t, miou in curve.items()},
        "held_out": {"share": request.share, "seed": request.share_seed} if request.share else None,
        "settings": {
            "prompts": request.prompts,
            "aliases": request.aliases,
            **({"present": True} if request.present else {}),  # absent from older results
            **_mode_settings(request.predict),
        },
        "model": describe_model(engine, model),
        "device": describe_device(engine),
    }
    return Evaluation(result, measured, predictor, samples, threshold, curve)


def _apart(samples: list[EvaluationSample], request: Request) -> list[EvaluationSample]:
    """Keep the samples that training did not see; all where no share was kept apart."""
    if not request.share:
        return samples
    names = held_out([sample.name for sample in samples], request.share, request.share_seed)
    if not names:
        raise ValueError(f"share {request.share}: none of {len(samples)} images is held out, give a larger share")
    return [sample for sample in samples if sample.name in names]


def _tuning_samples(
    protocol: Protocol, request: Request, reported: list[EvaluationSample], bare: bool
) -> list[EvaluationSample]:
    split = request.tune_split or protocol.tune_split
    if split is None or bare:
        raise ValueError(
            f"no split of {protocol.name} is there to tune a threshold on: give --tune_split, or --threshold"
        )
    found = protocol.tree.samples(request.root, split)[0]
    if request.share:
        names = held_out([sample.name for sample in found], request.share, request.share_seed)
        found = [sample for sample in found if sample.name not in names]
    tuning = spread(found, request.tune_images)
    check_disjoint(tuning, reported)
    return tuning


def summary(protocol: Protocol, split: str, names: tuple[str, ...], measured: Measured) -> dict:
    """Turn counts into numbers for JSON, percent rounded to two places."""
    matrix = measured.matrix
    iou, truth = matrix.iou() * 100, matrix.counts.sum(axis=1)
    present = np.flatnonzero(truth).tolist()
    total, images = max(1, int(truth.sum())), len(measured.singles)
    return {
        "dataset": protocol.name,
        "title": protocol.title,
        "split": split,
        "complete": measured.complete,
        "images": images,
        "protocol_images": protocol.images,
        "protocol_split": protocol.split,
        "miou": _rounded(matrix.mean_iou()),
        "classes_counted": int(np.isfinite(iou).sum()),
        "miou_present": _rounded(matrix.mean_iou(present)) if present else None,
        "classes_present": len(present),
        "pixel_accuracy": _rounded(matrix.pixel_accuracy()),
        "ms_per_image": round(1000 * measured.seconds / images, 1) if images else None,
        "per_class": {
            name: {"iou": _rounded(float(value)), "share": round(100 * int(pixels) / total, 3)}
            for name, value, pixels in zip(names, iou, truth, strict=True)
        },
    }


def describe_model(engine: TorchEngine, model: str) -> dict:
    return {
        "name": engine.config.name,
        "given_as": model,
        "fingerprint": engine.fingerprint,
        "parameters": sum(parameter.numel() for parameter in engine.network.parameters()),
    }


def describe_device(engine: TorchEngine) -> str:
    """Name the device, precisely enough that a time means something."""
    if engine.device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(engine.device)}, float16"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, float32"


def _mode_settings(settings: PredictSettings) -> dict:
    """Keep the settings that matter in this mode."""
    values = asdict(settings)
    values.pop("batch")  # changes speed, not results
    if settings.mode == "whole":
        return {"mode": "whole", "pamr": settings.pamr, "refine": settings.refine}
    return values


def _rounded(value: float) -> float | None:
    return round(value, 2) if np.isfinite(value) else None
