"""Train FiLM and the decoder on masks of base scenes: `python -m training.pretrain_decoder`.

CLIPSeg did the same on PhraseCut, and SynSeg starts from CLIPSeg. The encoder is frozen. No image and no label holds a
novel noun or a novel pair of colour and noun.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from synseg_model.config import (
    CLIP_MEAN,
    CLIP_STD,
    WEIGHTS_FILE,
    DecoderConfig,
    EncoderConfig,
    ImageConfig,
    ModelConfig,
)
from synseg_model.network.clip_encoder import ClipEncoder
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.domain import GENERATED_SCENES
from synseg_model.weights.model_folder import save_model
from synseg_model.weights.tensors import read_tensors
from training.datasets.arrays import to_tensor
from training.datasets.mask_batches import COMPETING, MaskBatches, SceneMaskConfig, base_labels
from training.evaluation.base_scenes import measure_base
from training.loop.command_line import run_training
from training.loop.config import TrainerConfig
from training.loop.initialization import standardize
from training.loop.trainer import Trainer
from training.networks.text_embedding import TextEmbedder
from training.networks.tiny_clip import ABOUT_FILE, CLIP_FILE, MERGES_FILE, PATCH, TINY_CLIP, tokenizer
from training.objective.scene_masks import MaskObjective
from training.objective.tokens import TokenLoss
from training.scenes.pool import Chunk, PoolConfig, build_pool, read_chunk
from training.scenes.scenes import BASE_NOUNS, COLORS

TEMPLATES = ("a {}", "a picture of a {}", "{}")
CAMERA = (480, 640)  # height and width of the images that the model is made for, in pixels


@dataclass
class PretrainDecoderConfig:
    """All settings of the decoder's training.

    Args:
        clip: folder that `training.pretrain_clip` wrote, or a model folder whose encoder to keep.
        name: name of the finished model.
        data: which scenes it sees.
        layers: encoder blocks that the decoder reads. It has one block of its own for each.
        conditional_layer: decoder blocks before FiLM, which all labels of an image share.
        width: channels of the decoder.
        ffn: hidden units of its feed-forward layers.
        image_size: side in pixels of a square with as many pixels as an input.
        checks: held-out scenes that are measured every `trainer.validate_every` steps, with all base labels competing.
        trainer: device, steps, learning rates, checkpoints. `trainer.batch` counts windows.
        resume: continue from the last checkpoint in `trainer.output`.
    """

    clip: str = "runs/clip"
    name: str = "synseg-tiny"
    data: SceneMaskConfig = field(default_factory=SceneMaskConfig)
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    conditional_layer: int = 5
    width: int = 128
    ffn: int = 512
    image_size: int = 192
    checks: int = 24
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            output="runs/decoder", steps=5_000, batch=40, precision="fast", optimizer="muon", betas=(0.9, 0.98),
            learning_rate=3e-3, warmup=100, clip_norm=1.0, ema=0.0, save_every=200, validate_every=200, image_every=0,
        )
    )  # fmt: skip
    resume: bool = False


def build_network(config: PretrainDecoderConfig) -> tuple[SynSeg, ModelConfig]:
    """Put a fresh decoder on the trained CLIP, rounded to half precision as the model folder will hold it.

    Raises:
        ValueError: the folder holds no CLIP.
    """
    folder = Path(config.clip)
    clip = open_clip.CLIP(**TINY_CLIP)
    if not any((folder / name).exists() for name in (WEIGHTS_FILE, CLIP_FILE)):
        program = f"python -m training.pretrain_clip --trainer.output {folder}"
        raise ValueError(f"{folder} holds no CLIP ({CLIP_FILE} or a model folder): {program} makes one")
    if (folder / WEIGHTS_FILE).exists():
        tensors = read_tensors(folder / WEIGHTS_FILE)
        prefix = "encoder.clip."
        clip.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        made = {key: value for key, value in ModelConfig.read(folder).training.items() if key in ("clip", "zero_shot")}
    else:
        clip.load_state_dict(load_file(folder / CLIP_FILE))
        about = json.loads((folder / ABOUT_FILE).read_text())
        made = {"clip": about["training"], "zero_shot": about["zero_shot"]}
    clip.half().float()
    model_config = ModelConfig(
        name=config.name,
        encoder=EncoderConfig(TINY_CLIP, included=True, merges=MERGES_FILE),
        decoder=DecoderConfig(
            layers=tuple(config.layers),
            width=config.width,
            ffn=config.ffn,
            head="refined",
            conditional_layer=config.conditional_layer,
        ),
        image=ImageConfig(size=config.image_size, resize="area", mean=CLIP_MEAN, std=CLIP_STD),
        templates=TEMPLATES,
        domain=GENERATED_SCENES,
        training={**made, "decoder": asdict(config)},
    )
    return SynSeg(ClipEncoder(clip, tokenizer(folder)), model_config), model_config


def open_scenes(config: PretrainDecoderConfig, size: tuple[int, int]) -> tuple[list[Chunk], Chunk]:
    """Render and read the scenes.

    Args:
        config: which scenes.
        size: their height and width in pixels.

    Returns:
        The scenes to train on, and those that are held out.
    """
    data, seed = config.data, 50_000_000 + 1_000_000 * config.trainer.seed
    pool = PoolConfig(data.scenes, (size,), seed, "base", objects=(1, 6), captions=1, supersample=(1, 2))
    chunks = [read_chunk(path) for path in tqdm(build_pool(pool, Path(data.cache)), desc="reading scenes")]
    held_out = dataclasses.replace(pool, count=config.checks, seed=seed + 500_000)
    return chunks, read_chunk(build_pool(held_out, Path(data.cache))[0])


def train(config: PretrainDecoderConfig) -> Path | None:
    """Train and return the finished model folder; None where a signal or the time limit ended the run before."""
    trainer = Trainer(config.trainer)
    fabric = trainer.fabric
    torch.manual_seed(config.trainer.seed)
    network, model_config = build_network(config)
    network.to(fabric.device).train()
    labels = base_labels()
    embed = TextEmbedder(network)
    table, competing, colors = map(embed, (labels, list(COMPETING), [f"{color} object" for color in COLORS]))
    tokens = TokenLoss(config.width, competing, colors, len(BASE_NOUNS)).to(fabric.device)
    size = model_config.image.input_size(*CAMERA, PATCH)
    chunks, held_out = trainer.first_alone(lambda: open_scenes(config, size))
    standardize(network, to_tensor(chunks[0].images[:32], fabric.device), table)  # a checkpoint brings other weights
    objective = MaskObjective(network, tokens, (size[0] // PATCH, size[1] // PATCH))
    batches = MaskBatches(chunks, config.data, labels, table, config.trainer.seed, config.trainer.steps)

    def validate(decoder: torch.nn.Module) -> dict[str, float]:
        return measure_base(network, decoder, held_out, competing, fabric.autocast)

    decoder = trainer.fit(objective, batches, resume=config.resume, validate=validate)
    if decoder is None:
        return None
    folder = trainer.output / "model"
    if fabric.is_global_zero:
        network.decoder.load_state_dict(decoder.state_dict())
        save_model(folder, network, model_config, torch.float16)
        shutil.copyfile(Path(config.clip) / MERGES_FILE, folder / MERGES_FILE)
        print(f"wrote {folder}")
    fabric.barrier()
    return folder


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and train; returns 0, 2 for what the user can put right, 130 where it was stopped."""
    return run_training(PretrainDecoderConfig, train, arguments)


if __name__ == "__main__":
    sys.exit(run())
