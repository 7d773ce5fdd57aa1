"""Train backbone and decoder on photographs: `python -m training.pretrain_photos`.

The photographs show rooms, streets, people and animals. Some have masks, some captions, some names of the whole image;
weights say how often each data set is drawn. The same command runs on a CPU and on a GPU. It stops after
`--trainer.max_minutes`, and continues to the same bits with `--resume`.

    python -m training.prepare_photos --root DATA --output runs/photos     # once: pack the photographs
    python -m training.words.phrases ... ; python -m training.pretrain_text ...  # once: the text encoder
    python -m training.pretrain_photos --config training/configs/synseg_everyday.yaml
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig
from synseg_model.files import write_json
from synseg_model.network.conv_encoder import build_backbone, load_packaged_weights
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.domain import PHOTOGRAPHS
from synseg_model.weights.exported_folder import NAMES_FILE
from synseg_model.weights.model_folder import load_model, save_model
from training.datasets.photo_batches import Mixture, MixtureConfig, PhotoBatches
from training.datasets.photo_words import open_words, write_names
from training.datasets.photos.packed import read_packed
from training.evaluation.final_weights import choose_weights, final_score
from training.evaluation.photo_images import photo_images
from training.evaluation.photos import detailed_results, validator
from training.loop.command_line import run_training
from training.loop.config import TrainerConfig
from training.loop.trainer import BEST_FILE, Trainer, seed_step
from training.networks.photo_network import levels_of, read_text_encoder
from training.networks.text_student import TEXT_FILE, WEIGHTS_FILE
from training.objective.photos import PhotoObjective, PhotoTerms
from training.words.merges import MERGES_FILE

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # of EfficientNet-Lite: (x - 127) / 128


@dataclass
class PretrainPhotosConfig:
    """All settings of training on photographs.

    Args:
        photos: folder that `training.prepare_photos` wrote.
        text: folder that `training.pretrain_text` wrote.
        backbone: timm's name of the image encoder. It has levels of strides 4, 8, 16 and 32.
        weights: a `.pth` file of the backbone's ImageNet weights in timm's order. Empty lets timm download its own;
            "none" starts with random weights.
        backbone_rate: learning rate of the backbone as a share of the decoder's (`trainer.new_learning_rate`).
        frozen_backbone: train the decoder alone, which is twice as fast on a CPU.
        start: a model folder to start from, instead of the backbone's weights and a random decoder.
        name: name of the finished model.
        width: channels of the decoder.
        ffn: hidden units of its feed-forward layers.
        heads: attention heads of its blocks.
        blocks: blocks before FiLM, which all labels share.
        context_width: channels of these blocks.
        skips: channels at strides 8 and 4 of what one label adds to the skip connections.
        image_size: side in pixels of a square with as many pixels as an input.
        text_noise: length of the largest random move of a text embedding, as a share of its length. Half of the texts
            are moved.
        checks: held-out photographs of each set that are measured every `trainer.validate_every` steps.
        mixture: how photographs become samples.
        terms: weights of the terms of the loss.
        trainer: device, steps, learning rates, checkpoints.
        resume: continue from the last checkpoint in `trainer.output`.
    """

    photos: str = "runs/photos"
    text: str = "runs/text"
    backbone: str = "tf_efficientnet_lite0"
    weights: str = ""
    backbone_rate: float = 0.2
    frozen_backbone: bool = False
    start: str = ""
    name: str = "synseg-everyday"
    width: int = 64
    ffn: int = 512
    heads: int = 6
    blocks: int = 3
    context_width: int = 192
    skips: tuple[int, int] = (24, 8)
    image_size: int = 328
    text_noise: float = 0.9
    checks: int = 100
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    terms: PhotoTerms = field(default_factory=PhotoTerms)
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            output="runs/synseg-everyday", steps=15_000, batch=64, new_learning_rate=1e-3, warmup=300, ema=0.999,
            save_every=1_000, validate_every=1_000, log_every=20, image_every=1_000,
        )
    )  # fmt: skip
    resume: bool = False


def build_network(config: PretrainPhotosConfig) -> SynSeg:
    """Put a fresh decoder behind the backbone and beside the text encoder."""
    folder = Path(config.text)
    about, text = read_text_encoder(folder)
    levels = levels_of(config.backbone)
    model = ModelConfig(
        name=config.name,
        encoder=EncoderConfig(
            {"text_cfg": about["text_cfg"]}, included=True, merges=MERGES_FILE, backbone=config.backbone, levels=levels
        ),
        decoder=DecoderConfig(
            layers=levels, width=config.width, heads=config.heads, ffn=config.ffn, conditional_layer=config.blocks,
            skips=tuple(config.skips), context_width=config.context_width, dense=True, presence=True,
        ),
        image=ImageConfig(size=config.image_size, resize="area", mean=MEAN, std=STD),
        templates=("{}",),
        normalize_text=True,
        context_length=about["text_cfg"]["context_length"],
        domain=PHOTOGRAPHS,
        training={"text": about.get("training", {}), "photographs": asdict(config)},
        results={"text": about.get("results", {})},
    )  # fmt: skip
    network = SynSeg.from_config(model, folder)
    try:
        network.encoder.text.load_state_dict(text)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}: {WEIGHTS_FILE} does not fit {TEXT_FILE} ({reason})") from None
    if config.start:
        began, _ = load_model(config.start)
        kinds = [(n.config.encoder.backbone, n.config.decoder, n.encoder.text_width) for n in (began, network)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"start {config.start!r} has backbone, decoder and text width {kinds[0]}, this run has {kinds[1]}: "
                "set the same ones"
            )
        network.encoder.image.load_state_dict(began.encoder.image.state_dict())
        network.decoder.load_state_dict(began.decoder.state_dict())
    elif config.weights and config.weights != "none":
        load_packaged_weights(network.encoder.image, config.weights)
    elif not config.weights:
        image = build_backbone(config.backbone, levels, pretrained=True)
        network.encoder.image.load_state_dict(image.state_dict())
    return network


def train(config: PretrainPhotosConfig) -> Path | None:
    """Train and return the finished model folder; None where a signal or the time limit ended the run before."""
    trainer = Trainer(config.trainer)
    fabric, output = trainer.fabric, trainer.output
    torch.manual_seed(config.trainer.seed)
    network = build_network(config).to(fabric.device)
    network.encoder.image.to(memory_format=torch.channels_last)
    network.decoder.to(memory_format=torch.channels_last)
    about, photos = read_packed(Path(config.photos) / "train")
    words = open_words(network, photos, about["exhaustive"])
    mixture = Mixture(photos, about["exhaustive"], words, config.mixture, config.trainer.seed)
    seed_step(config.trainer.seed, 0, 0)
    objective = PhotoObjective(network, config.terms, config.backbone_rate, config.frozen_backbone)
    image = network.config.image
    batches = PhotoBatches(mixture, image.mean, image.std, config.text_noise, config.trainer.steps)
    held_out, apart = read_packed(Path(config.photos) / "held_out")
    validate = validator(network, apart, held_out["exhaustive"], words, config.checks)
    images = photo_images(network, apart[:: max(1, len(apart) // 8)][:8], words)
    averaged = trainer.fit(objective, batches, images, config.resume, validate)
    for problem, count in batches.damages.most_common(10):
        fabric.print(f"skipped: {problem} ({count} times)")
    if averaged is None:
        return None
    folder = output / "model"
    if fabric.is_global_zero:
        exhaustive = held_out["exhaustive"]
        chosen, measured = choose_weights(
            averaged, output / BEST_FILE, lambda: detailed_results(network, averaged, apart, exhaustive, words)
        )
        write_json(output / "results.json", {"weights": chosen, **measured}, indent=1)
        network.encoder.image.load_state_dict(averaged["image"].state_dict())
        network.decoder.load_state_dict(averaged["decoder"].state_dict())
        write_model(folder, network, config, measured)
        write_names(folder / NAMES_FILE, photos, words)
        print(f"wrote {folder}: weights {chosen}, score {final_score(measured):.1f}")
    fabric.barrier()
    return folder


def write_model(folder: Path, network: SynSeg, config: PretrainPhotosConfig, results: dict[str, dict]) -> None:
    """Write the model folder; its config says what the model reaches on photographs that training did not see."""
    reached = {
        name: {key: value[key] for key in ("photographs", "miou", "pixel_accuracy")} for name, value in results.items()
    }
    model_config = replace(network.config, results={**network.config.results, "held out": reached})
    save_model(folder, network, model_config, torch.float16)
    shutil.copyfile(Path(config.text) / MERGES_FILE, folder / MERGES_FILE)


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and train; returns 0, 2 for what the user can put right, 130 where it was stopped."""
    return run_training(PretrainPhotosConfig, train, arguments)


if __name__ == "__main__":
    sys.exit(run())
