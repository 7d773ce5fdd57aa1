"""Train SynSeg from captions: `python -m training.train`.

Without arguments, the program trains the shipped model on generated scenes and their captions, and measures the model
before and after. This takes ten minutes on two CPU cores. `--config training/configs/cc12m_vitb16.yaml` is the paper's
run. Any setting can follow on the command line (`--trainer.steps 1000`). `--print-config` prints all settings as a
file for `--config`.

Several GPUs: `--trainer.devices 4`. Several machines: start the same command on each with `torchrun` or `fabric run`.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from synseg_model.files import write_json
from synseg_model.network.synseg import SynSeg, build_decoder
from synseg_model.weights.domain import GENERATED_SCENES, PHOTOGRAPHS
from synseg_model.weights.exported_folder import NAMES_FILE
from synseg_model.weights.find import find_folder
from synseg_model.weights.model_folder import load_model, save_model
from synseg_model.weights.tensors import read_tensors
from training.datasets.augmentation import BatchConfig
from training.datasets.batches import BatchSource
from training.datasets.caption_masks import CaptionMaskConfig, caption_masks
from training.datasets.masked_scenes import MaskedScenes, Rehearsed
from training.datasets.pairs import Pairs
from training.datasets.sources import DataConfig, open_pairs, scene_pool
from training.evaluation.activation_images import activation_images
from training.evaluation.measured import measure_on_photographs, measure_on_scenes, report
from training.loop.command_line import run_training
from training.loop.config import TrainerConfig
from training.loop.initialization import standardize
from training.loop.trainer import Trainer, seed_step
from training.networks.text_embedding import TextEmbedder
from training.objective.objective import CaptionObjective, ObjectiveConfig

MASK_DECODER = "mask_decoder.safetensors"


@dataclass
class TrainConfig:
    """All settings of a run.

    Args:
        model: the model to start from: a shipped name, a model folder or a CLIPSeg id. Its encoder stays as it is.
        decoder: pretrained keeps the model's decoder. masks takes the decoder that only masks have trained, which
            synseg-tiny has in a second file. random starts with random weights.
        name: name of the finished model.
        data: where images and captions come from.
        batches: what an image and its labels become.
        objective: the terms of the loss.
        masks: how masks are made of captions, where objective.masks asks for them.
        trainer: device, steps, learning rates, checkpoints.
        keep: share of the starting decoder in the weights of the finished one, from 0 to below 1 (WiSE-FT, arXiv
            2109.01903). It brings back what the decoder knew of masks, and costs little of what captions taught.
        evaluate: held-out scenes to measure before and after training, or held-out photographs of each set where the
            source is photos; 0 for none.
        resume: continue from the last checkpoint in `trainer.output`, if there is one.
    """

    model: str = "synseg-tiny"
    decoder: Literal["pretrained", "masks", "random"] = "pretrained"
    name: str = "synseg-scenes"
    data: DataConfig = field(default_factory=DataConfig)
    batches: BatchConfig = field(default_factory=lambda: BatchConfig(image_size=0, labels=4, absent=3))
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    masks: CaptionMaskConfig = field(default_factory=CaptionMaskConfig)
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            steps=80, warmup=10, learning_rate=3e-4, ema=0.97, save_every=20, image_every=40
        )
    )
    keep: float = 0.0
    evaluate: int = 15
    resume: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.keep < 1 or self.data.rehearsal < 0:
            raise ValueError(
                f"keep is {self.keep}, data.rehearsal {self.data.rehearsal}: expected a share below 1, and 0 or more"
            )
        if self.data.rehearsal and not self.objective.masks:
            raise ValueError(f"data.rehearsal is {self.data.rehearsal}: only objective.masks trains on masks")


def shown_labels(config: TrainConfig) -> BatchConfig:
    """Return what a batch shows: no absent labels where no term of the objective looks at them."""
    return config.batches if config.objective.uses_absent else dataclasses.replace(config.batches, absent=0)


def open_masks(pairs: Pairs, network: SynSeg, text: TextEmbedder, config: TrainConfig) -> Pairs:
    """Make masks of the pairs' captions (`training.datasets.caption_masks`) and mix in the rehearsal's scenes."""
    data = config.data
    made = caption_masks(pairs, network, text, config.masks, data.cache)
    if not data.rehearsal:
        return made
    count = math.ceil(data.rehearsal * made.size)
    seen = network.config.image.input_size(*data.scene_size, network.encoder.patch)
    return Rehearsed(made, MaskedScenes(scene_pool(seen, count, 60_000_000, "base"), data.cache, config.trainer.seed))


def train(config: TrainConfig, pairs: Pairs | None = None) -> Path | None:
    """Train and measure.

    Args:
        config: all settings.
        pairs: what `open_pairs` opened for another run with the same data and seed.

    Returns:
        The finished model folder; None where a signal or the time limit ended the run before its last step.

    Raises:
        ValueError: a setting, the data or the model is none that can be used.
    """
    trainer = Trainer(config.trainer)
    fabric, output = trainer.fabric, trainer.output
    if fabric.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "config.json", asdict(config))
    network = starting_network(config)
    network.to(fabric.device)
    if config.batches.window:
        network.encoder.window_position((1, 1), slice(0, 1), slice(0, 1))  # says so before masks are made, if it cannot
    text = TextEmbedder(network)

    def opened() -> Pairs:
        found = pairs or open_pairs(config.data, config.trainer.seed)
        return open_masks(found, network, text, config) if config.objective.masks else found

    pairs = trainer.first_alone(opened)  # the first process renders scenes and makes masks
    batches = BatchSource(pairs, shown_labels(config), network.config.image, text)
    if config.decoder == "random":
        reset_decoder(network, batches, config.trainer)
    seed_step(config.trainer.seed, 0, 0)  # of the projector, the same in every process
    start = {name: value.clone() for name, value in network.decoder.state_dict().items()}
    objective = CaptionObjective(network, config.objective, fresh=config.decoder == "random")
    images = activation_images(network, batches.first(min(6, config.trainer.batch), fabric.device))
    averaged = trainer.fit(objective, batches, images, config.resume)
    if averaged is None:
        return None
    averaged.load_state_dict(
        {name: value.lerp(start[name].to(value), config.keep) for name, value in averaged.state_dict().items()}
    )
    folder = output / "model"
    if fabric.is_global_zero:
        write_model(folder, network, averaged, config)
        print(f"wrote {folder}")
        if config.evaluate:
            before, after = measure(config.model, config, fabric.device, start), measure(folder, config, fabric.device)
            write_json(output / "results.json", {"before": before, "after": after})
            print(report(before, after))
    fabric.barrier()
    return folder


def measure(model: str | Path, config: TrainConfig, device: torch.device, decoder: dict | None = None) -> dict:
    """Measure a model on what the data's source holds out.

    Args:
        model: a model folder or a shipped name.
        config: of the run.
        device: to measure on.
        decoder: weights to measure instead of the model's own decoder.

    Returns:
        mIoU in percent by kind of name.
    """
    if config.data.source == "photos":
        return measure_on_photographs(model, config.evaluate, device, config.data.photos, decoder)
    return measure_on_scenes(model, config.evaluate, device, config.trainer.seed, decoder)


def starting_network(config: TrainConfig) -> SynSeg:
    """Load the model with the decoder that training starts from, but for a random one, which needs batches.

    Raises ValueError where the decoder that only masks had trained is asked for and the model has none beside its own.
    """
    network, _ = load_model(config.model)
    if config.decoder == "masks":
        file = find_folder(config.model) / MASK_DECODER
        if not file.exists():
            raise ValueError(f"decoder is 'masks', but {file.parent} has no {MASK_DECODER}: choose 'pretrained'")
        network.decoder.load_state_dict({name: tensor.float() for name, tensor in read_tensors(file).items()})
    return network


def reset_decoder(network: SynSeg, batches: BatchSource, config: TrainerConfig) -> None:
    """Give the network a decoder of random weights, scaled to its own inputs; the same in every process."""
    torch.manual_seed(config.seed)
    device = next(network.parameters()).device
    network.decoder = build_decoder(network.config, network.encoder).to(device)
    part = batches.first(config.batch, device)
    standardize(network, part.images, part.text[part.valid])


def write_model(folder: Path, network: SynSeg, averaged: nn.Module, config: TrainConfig) -> Path:
    """Write the model folder with the averaged decoder, the run's settings and the model's other files."""
    network.decoder.load_state_dict(averaged.state_dict())
    training = {**network.config.training, "captions": asdict(config)}
    domain = network.config.domain
    if config.data.source == "scenes":
        domain = GENERATED_SCENES
    elif config.data.source == "photos":
        domain = PHOTOGRAPHS
    elif domain == GENERATED_SCENES:  # it has met other images now, and nobody has said which
        domain = ""
    model_config = dataclasses.replace(network.config, name=config.name, domain=domain, training=training, results={})
    save_model(folder, network, model_config, torch.float16 if model_config.encoder.included else torch.float32)
    for name in (model_config.encoder.merges, NAMES_FILE):
        if name and (source := find_folder(config.model) / name).exists():
            shutil.copyfile(source, folder / name)
    return folder


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and train; returns 0, 2 for what the user can put right, 130 after Ctrl-C or SIGTERM."""
    return run_training(TrainConfig, train, arguments)


if __name__ == "__main__":
    sys.exit(run())
