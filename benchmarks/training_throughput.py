"""Measure training at the paper's size: `python -m benchmarks.training_throughput --images FOLDER --captions FILE`.

A ViT-B/16 at 224 px with CLIPSeg's decoder takes steps of the paper's objective on captioned images through the real
trainer. Weights are random: they change no speed. The JSON says how many images a second that makes, and which share
of the time the trainer waited for data, which is images read and decoded and labels embedded that are new: with few
readers images are decoded slower than a GPU takes them.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jsonargparse
import torch

from benchmarks.measuring import describe_machine
from synseg_model.config import CLIP_MEAN, CLIP_STD, DecoderConfig, EncoderConfig, ImageConfig, ModelConfig
from synseg_model.network.synseg import SynSeg
from training.datasets.batches import BatchConfig, BatchSource
from training.datasets.coco_captions import CocoCaptions
from training.loop.config import TrainerConfig
from training.loop.log import LOG_FILE
from training.loop.trainer import Trainer
from training.networks.text_embedding import TextEmbedder
from training.objective.objective import CaptionObjective, ObjectiveConfig


@dataclass
class ThroughputConfig:
    """Settings of the measurement.

    Args:
        images: folder of images. captions: their COCO captions file.
        labels: what `training.prepare` made of the captions; "" makes it here, which takes spaCy.
        batch: images of a step. steps: measured ones, after two that are not.
        workers: reading processes to compare; None: none and one, on a GPU as many as the machine has processors.
        precision: of the trainer; auto takes bf16 on GPUs.
        output: JSON file.
    """

    images: str
    captions: str
    labels: str = ""
    batch: int = 8
    steps: int = 8
    workers: tuple[int, ...] | None = None
    precision: str = "auto"
    output: str = "benchmarks/results/training_throughput.json"


def measure(config: ThroughputConfig, labels: Path, workers: int, folder: Path) -> dict:
    """Train a few steps with so many reading processes; returns medians."""
    image = ImageConfig(size=224, mean=CLIP_MEAN, std=CLIP_STD)
    encoder = EncoderConfig("ViT-B-16-quickgelu", included=True)
    network = SynSeg.from_config(ModelConfig("throughput", encoder, DecoderConfig(), image), download=False)
    trainer = Trainer(
        TrainerConfig(
            output=str(folder / f"workers{workers}"),
            steps=config.steps + 2,
            batch=config.batch,
            precision=config.precision,
            log_every=1,
            image_every=0,
            save_every=config.steps + 2,
            patience=0,
        )
    )
    network.to(trainer.fabric.device)
    pairs = CocoCaptions(config.images, config.captions, labels)
    text = TextEmbedder(network)
    batches = BatchSource(pairs, BatchConfig(image_size=224, workers=workers), image, text)
    trainer.fit(CaptionObjective(network, ObjectiveConfig()), batches)
    lines = [json.loads(line) for line in (trainer.output / LOG_FILE).read_text().splitlines()][2:]
    return {
        name: round(statistics.median(line[name] for line in lines), 3) for name in ("images_per_second", "data_wait")
    }


def main(config: ThroughputConfig) -> dict:
    """Measure with every number of readers, side by side in one run, and write the JSON."""
    gpu = torch.cuda.is_available()
    workers = config.workers or ((os.cpu_count(),) if gpu else (0, 1))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        labels = Path(config.labels or folder / "labels")
        if not config.labels:
            _prepare(config.captions, labels)
        measured = {str(count): measure(config, labels, count, folder) for count in workers}
    result = {
        "what": "training steps of ViT-B/16, 224 px, CLIPSeg decoder, paper's objective, medians",
        "machine": describe_machine("cuda" if gpu else "cpu"),
        "settings": {name: getattr(config, name) for name in ("batch", "steps", "precision")},
        "by_reading_processes": measured,
    }
    path = Path(config.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return result


def _prepare(captions: str, labels: Path) -> None:
    from training.prepare import PrepareConfig, prepare  # takes spaCy

    prepare(PrepareConfig(input=captions, output=str(labels), workers=1))


if __name__ == "__main__":
    main(jsonargparse.auto_cli(ThroughputConfig, as_positional=False))
