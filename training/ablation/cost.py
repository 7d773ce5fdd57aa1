"""What rows cost: training steps and frames timed in turn, so that the machine's other load meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from synseg_model.segmenter import Segmenter
from synseg_model.vocabulary import Vocabulary
from training.loop.config import TrainerConfig
from training.loop.trainer import Trainer
from training.objective.batch import Batch
from training.objective.objective import CaptionObjective
from training.scenes.scenes import NOUNS, STUFF, Scene


def in_turn(calls: dict[str, Callable[[], object]], rounds: int, title: str) -> dict[str, float]:
    """Time calls one after the other, `rounds` times; returns the median milliseconds of each.

    One more round before the others is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in tqdm(range(rounds + 1), desc=title, unit="round", leave=False):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def step_costs(
    objectives: dict[str, CaptionObjective], parts: dict[str, Batch], config: TrainerConfig, rounds: int
) -> dict[str, float]:
    """Time a training step of every objective on its part, forward and backward; returns milliseconds per image."""
    fabric = Trainer(config).fabric
    calls = {
        name: _step(fabric, fabric.setup_module(objective), objective.decoder, parts[name])
        for name, objective in objectives.items()
    }
    return {name: spent / len(parts[name].images) for name, spent in in_turn(calls, rounds, "cost of steps").items()}


def _step(fabric: Fabric, module: nn.Module, averaged: nn.Module, part: Batch) -> Callable[[], object]:
    def step() -> None:
        fabric.backward(module(part, averaged)["total"])
        module.zero_grad()

    return step


def frame_costs(segmenters: dict[str, Segmenter], scenes: Sequence[Scene], rounds: int) -> dict[str, float]:
    """Time whole frames, all nouns and stuff asked for, of segmenters by name; returns milliseconds per frame."""
    calls = {}
    for name, segmenter in segmenters.items():
        vocabulary = segmenter.prepare_vocabulary([*NOUNS, *STUFF])
        calls[name] = partial(_segment_all, segmenter, vocabulary, [scene.image for scene in scenes])
    return {name: spent / len(scenes) for name, spent in in_turn(calls, rounds, "cost of frames").items()}


def _segment_all(segmenter: Segmenter, vocabulary: Vocabulary, images: Sequence[np.ndarray]) -> None:
    for image in images:
        segmenter.segment(image, vocabulary)
