"""Train FiLM and the decoder on masks of base scenes: `python -m training.pretrain_decoder`.

This is what CLIPSeg did on PhraseCut, and what SynSeg starts from. The encoder is frozen; novel nouns and novel
colour-noun pairs appear in no image and in no label here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
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
from synseg_model.engines.torch import choose_device
from synseg_model.network.clip_encoder import ClipEncoder
from synseg_model.network.synseg import SynSeg
from synseg_model.weights.domain import GENERATED_SCENES
from synseg_model.weights.model_folder import save_model
from synseg_model.weights.tensors import read_tensors
from training.datasets.batches import TextBank, to_tensor
from training.datasets.mask_batches import COMPETING, Batch, base_labels, batches
from training.evaluation.metrics import ConfusionMatrix
from training.loop.checkpoint import load_checkpoint, save_checkpoint
from training.loop.initialization import standardize
from training.loop.optimizers import MuonAdamW
from training.loop.schedule import autocast
from training.loop.trainer import cosine_with_warmup
from training.networks.tiny_clip import MERGES_FILE, PATCH, TINY_CLIP, tokenizer
from training.objective.masks import mask_terms
from training.objective.tokens import TokenLoss
from training.scenes.pool import Chunk, PoolConfig, build_pool, read_chunk
from training.scenes.scenes import BASE_NOUNS, COLORS

TEMPLATES = ("a {}", "a picture of a {}", "{}")


@dataclass
class PretrainDecoderConfig:
    """Settings of the decoder's training.

    Args:
        clip: folder that `training.pretrain_clip` wrote, or a model folder whose encoder to keep.
        output: folder for checkpoints, TensorBoard events and the finished model folder `model/`.
        cache: folder for the rendered scenes.
        scenes: number of scenes, all of the base split, shaped like a camera's 4:3 image.
        crop: side of the windows that training sees first, two thirds of them around things.
        crop_steps: share of the steps that see windows; the rest sees whole images, as many pixels in a batch. A
            window shows a thing at the same size for a quarter of the work.
        batch: windows in a batch. decoded: share of them that is decoded; all train the blocks before FiLM.
        labels: labels decoded for each image, present and absent ones.
        layers: encoder blocks that the decoder reads, with one block of its own for each.
        conditional_layer: decoder blocks before FiLM, which all labels of an image share.
        checks: held-out scenes that are measured every `check_every` steps, all base labels competing.
        resume: go on from the last checkpoint in `output`.
    """

    clip: str = "runs/clip"
    output: str = "runs/decoder"
    cache: str = "runs/cache"
    name: str = "synseg-tiny"
    scenes: int = 20_000
    steps: int = 5_000
    crop: int = 96
    crop_steps: float = 0.85
    batch: int = 40
    decoded: float = 0.4
    labels: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: int = 100
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    conditional_layer: int = 5
    width: int = 128
    ffn: int = 512
    image_size: int = 192
    checks: int = 24
    check_every: int = 200
    seed: int = 0
    device: str = "auto"
    resume: bool = False


def build_network(config: PretrainDecoderConfig) -> tuple[SynSeg, ModelConfig]:
    """Put a fresh decoder on the trained CLIP, rounded to half precision as the model folder will hold it."""
    folder = Path(config.clip)
    clip = open_clip.CLIP(**TINY_CLIP)
    if (folder / WEIGHTS_FILE).exists():
        tensors = read_tensors(folder / WEIGHTS_FILE)
        prefix = "encoder.clip."
        clip.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        made = {key: value for key, value in ModelConfig.read(folder).training.items() if key in ("clip", "zero_shot")}
    else:
        state = torch.load(folder / "clip.pt", map_location="cpu", weights_only=True)
        clip.load_state_dict(state["clip"])
        made = {"clip": json.loads((folder / "config.json").read_text()), "zero_shot": state["zero_shot"]}
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


@torch.no_grad()
def check(network: SynSeg, chunk: Chunk, table: Tensor) -> dict[str, float]:
    """Measure held-out scenes, every noun and every kind of stuff of the base split competing; mIoU in percent."""
    matrix = ConfusionMatrix(len(COMPETING))
    for image, index_map, segments in zip(chunk.images, chunk.index_maps, chunk.segments, strict=True):
        with autocast(table.device):
            logits = network(to_tensor(image[None], table.device), table)[0]
        truth = np.array([COMPETING.index(noun) for noun, _ in segments])[index_map]
        matrix.update(logits.argmax(dim=0).cpu().numpy(), truth)
    things = range(len(BASE_NOUNS))
    return {"nouns": matrix.mean_iou(things), "stuff": matrix.mean_iou(range(len(BASE_NOUNS), len(COMPETING)))}


def step_loss(network: SynSeg, token_loss: TokenLoss, batch: Batch, table: Tensor, balance: float) -> Tensor:
    """Run the encoder and the shared blocks on all images, FiLM and what follows on those that are decoded."""
    encoder, device = network.encoder, table.device
    images = to_tensor(batch.images, device)
    nouns, colors, rows, masks = (
        torch.from_numpy(array).to(device) for array in (batch.nouns, batch.colors, batch.labels, batch.masks)
    )
    grid = (images.shape[2] // PATCH, images.shape[3] // PATCH)
    whole = network.config.image.input_size(480, 640, PATCH)
    with torch.no_grad():
        # A window is told the positions that it would have in a whole image: with them it attends as far.
        position = encoder.window_position((whole[0] // PATCH, whole[1] // PATCH), *batch.window)
        states = encoder.hidden_states(images, network.config.decoder.layers, position)
    reduced = network.decoder.reduce(states)
    logits = network.decoder([part[: len(rows)] for part in reduced], table[rows], grid)
    return mask_terms(logits, masks, balance)["total"] + token_loss(reduced[0][:, 1:], nouns, colors)


def train(config: PretrainDecoderConfig) -> Path:
    """Train and return the finished model folder."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    network, model_config = build_network(config)
    network.to(device).train()
    decoder = network.decoder
    labels = base_labels()
    embed = TextBank(network.encoder, model_config.templates, model_config.normalize_text)
    table, competing, colors = map(embed, (labels, list(COMPETING), [f"{color} object" for color in COLORS]))
    token_loss = TokenLoss(config.width, competing, colors, len(BASE_NOUNS)).to(device)
    trained = nn.ModuleDict({"decoder": decoder, "token_loss": token_loss})
    optimizer = MuonAdamW(trained, list(decoder.blocks), config.learning_rate, config.weight_decay)
    start = load_checkpoint(output, trained, optimizer) if config.resume else 0

    size = model_config.image.input_size(480, 640, network.encoder.patch)
    pool = PoolConfig(config.scenes, (size,), seed=50_000_000 + 1_000_000 * config.seed, split="base", objects=(1, 6),
                      captions=1, supersample=(1, 2))  # fmt: skip
    chunks = [read_chunk(path) for path in tqdm(build_pool(pool, Path(config.cache)), desc="reading scenes")]
    held_out = dataclasses.replace(pool, count=config.checks, seed=pool.seed + 500_000)
    checked = read_chunk(build_pool(held_out, Path(config.cache))[0])
    stream = batches(chunks, config, {label: row for row, label in enumerate(labels)}, start)
    if start == 0:
        standardize(network, to_tensor(chunks[0].images[:32], device), table)
    writer = SummaryWriter(str(output))
    started = time.monotonic()
    with tqdm(total=config.steps, initial=start, desc="decoder", unit="step", mininterval=5) as bar:
        for step in range(start, config.steps):
            batch = next(stream)
            optimizer.set_rate(cosine_with_warmup(step, config.warmup, config.steps) * config.learning_rate)
            balance = max(0.0, 1 - 2 * step / config.steps)  # gone at half time, so that thresholds end calibrated
            with autocast(device):
                loss = step_loss(network, token_loss, batch, table, balance)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower --learning_rate")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimizer.step()
            bar.update()
            if step % 10 == 0:
                writer.add_scalar("loss", loss.item(), step)
                bar.set_postfix(loss=f"{loss.item():.3f}")
            if (step + 1) % config.check_every == 0:
                save_checkpoint(output, trained, optimizer, step + 1)
                measured = check(network, checked, competing)
                for name, value in measured.items():
                    writer.add_scalar(f"miou/{name}", value, step)
                numbers = ", ".join(f"{name} {value:.1f}" for name, value in measured.items())
                minutes = (time.monotonic() - started) / 60
                bar.write(f"step {step + 1}: loss {loss.item():.3f}, mIoU {numbers}, {minutes:.1f} min")
    writer.close()
    folder = save_model(output / "model", network, model_config, torch.float16)
    shutil.copyfile(Path(config.clip) / MERGES_FILE, folder / MERGES_FILE)
    print(f"wrote {folder}")
    return folder


if __name__ == "__main__":
    train(jsonargparse.auto_cli(PretrainDecoderConfig, as_positional=False))
