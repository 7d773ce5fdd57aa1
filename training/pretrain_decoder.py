"""Train FiLM and the decoder on masks of base scenes: `python -m training.pretrain_decoder`.

This is what CLIPSeg did on PhraseCut, and what SynSeg starts from. The encoder is frozen; novel nouns and novel
colour-noun pairs appear in no picture and in no label here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonargparse
import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from synseg_model.checkpoints import read_tensors, save_model
from synseg_model.clip_encoder import ClipEncoder
from synseg_model.config import (
    CLIP_MEAN,
    CLIP_STD,
    WEIGHTS_FILE,
    DecoderConfig,
    EncoderConfig,
    ImageConfig,
    ModelConfig,
)
from synseg_model.engines.torch_engine import choose_device
from synseg_model.network import SynSeg
from synseg_model.trainer import cosine_with_warmup
from training.batches import TextBank
from training.checkpoint import load_checkpoint, save_checkpoint
from training.datasets.scene_pool import Chunk, PoolConfig, build_pool, read_chunk
from training.datasets.scene_vocabulary import is_base
from training.datasets.scenes import BASE_NOUNS, COLORS, STUFF
from training.initialization import standardize
from training.metrics import ConfusionMatrix
from training.optimizers import MuonAdamW
from training.pretrain_clip import to_tensor
from training.schedule import autocast
from training.tiny_clip import MERGES_FILE, TINY_CLIP, tokenizer

TEMPLATES = ("a {}", "a picture of a {}", "{}")
COMPETING = (*BASE_NOUNS, *STUFF)
PATCH = TINY_CLIP["vision_cfg"]["patch_size"]


@dataclass
class PretrainDecoderConfig:
    """Settings of the decoder's training.

    Args:
        clip: folder that `training.pretrain_clip` wrote, or a model folder whose encoder to keep.
        output: folder for checkpoints, TensorBoard events and the finished model folder `model/`.
        cache: folder for the rendered scenes.
        scenes: number of scenes, all of the base split, shaped like a camera's 4:3 picture.
        crop: side of the windows that training sees first, two thirds of them around things.
        crop_steps: share of the steps that see windows; the rest sees whole pictures, as many pixels in a batch. A
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
    steps: int = 1_200
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


def base_labels() -> list[str]:
    """List every label that mask training may use: base nouns, base colour-noun pairs, stuff."""
    pairs = [f"{color} {noun}" for noun in BASE_NOUNS for color in COLORS if is_base(color, noun)]
    return [*COMPETING, *pairs]


def draw_labels(
    segments: list[tuple[str, str | None]], visible: np.ndarray, count: int, rng: np.random.Generator
) -> list[str]:
    """Draw present and absent labels for a scene, half and half; the odd one is present.

    visible: share of the picture that each segment covers; of what covers less than 0.4 % neither presence nor absence
    is asked. Of the absent labels a third each are nouns, stuff and near misses: a present noun in another colour or
    another noun in a present colour. Without much absent stuff a decoder takes any of its names for "background".
    """
    shown = [segment for segment, share in zip(segments, visible, strict=True) if share]
    large = [segment for segment, share in zip(segments, visible, strict=True) if share >= 0.004]
    names = {name for noun, color in large for name in (noun, f"{color} {noun}" if color else noun)}
    present = [str(label) for label in rng.permutation(sorted(names))][: count - count // 2]
    known = {name for noun, color in shown for name in (noun, f"{color} {noun}")}
    things = [(noun, color) for noun, color in shown if color]
    absent: list[str] = []
    while len(present) + len(absent) < count:
        kind = rng.integers(6)
        noun, color = BASE_NOUNS[rng.integers(len(BASE_NOUNS))], list(COLORS)[rng.integers(len(COLORS))]
        if things and kind < 2:
            shown_noun, shown_color = things[rng.integers(len(things))]
            noun, color = (shown_noun, color) if kind == 0 else (noun, shown_color)
        label = STUFF[rng.integers(len(STUFF))] if kind in (2, 3) else noun if kind > 3 else f"{color} {noun}"
        if label not in known and label not in absent and (kind >= 2 or is_base(color, noun)):
            absent.append(label)
    return present + absent


def draw_window(
    index_map: np.ndarray, segments: list[tuple[str, str | None]], side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Choose a square window: anywhere, or so that it holds the middle of a thing of the scene near its own."""
    if rng.random() < 1 / 3:
        top, left = (int(rng.integers(length - side + 1)) for length in index_map.shape)
        return slice(top, top + side), slice(left, left + side)
    things = [i for i, (_, color) in enumerate(segments) if color and (index_map == i).any()]
    rows, columns = np.nonzero(index_map == things[rng.integers(len(things))])
    middle = np.array([rows.mean(), columns.mean()]) + rng.uniform(-0.3, 0.3, 2) * side - side / 2
    top, left = np.clip(middle, 0, np.array(index_map.shape) - side).astype(int)
    return slice(top, top + side), slice(left, left + side)


def mask_of(label: str, segments: list[tuple[str, str | None]], index_map: np.ndarray) -> np.ndarray:
    """Return the pixels (H,W) bool of the segments that a label names."""
    hit = np.array([label == noun or label == f"{color} {noun}" for noun, color in segments])
    return hit[index_map]


@dataclass(frozen=True)
class Batch:
    """Hold what one step sees: B images, of which the first D are decoded for K labels each.

    images: (B,H,W,3) uint8. nouns, colors: (B,P) int64 index of each token's noun (see `COMPETING`) and colour; -1
    where it has none or holds several. labels: (D,K) rows of the label table. masks: (D,K,H,W) bool.
    corner: where in a whole picture's token grid the images are told to lie, (row, column).
    """

    images: np.ndarray
    nouns: np.ndarray
    colors: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    corner: tuple[int, int]


def token_targets(
    index_map: np.ndarray, segments: list[tuple[str, str | None]], patch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Name the noun and the colour of each token, (P,) each: -1 where no segment has 60 % of its pixels."""
    rows, columns = (side // patch for side in index_map.shape)
    pixels = index_map.reshape(rows, patch, columns, patch).swapaxes(1, 2).reshape(rows * columns, -1)
    counts = np.stack([(pixels == index).sum(axis=1) for index in range(len(segments))], axis=1)
    clear = counts.max(axis=1) >= 0.6 * patch**2
    colors = list(COLORS)
    nouns = np.array([COMPETING.index(noun) for noun, _ in segments])[counts.argmax(axis=1)]
    named = np.array([colors.index(color) if color else -1 for _, color in segments])[counts.argmax(axis=1)]
    return np.where(clear, nouns, -1), np.where(clear, named, -1)


def batches(chunks: list[Chunk], config: PretrainDecoderConfig, rows: dict[str, int], start: int) -> Iterator[Batch]:
    """Yield batches without end; the order is a function of seed and step."""
    height, width = chunks[0].images.shape[1:3]
    step = start
    while True:
        rng = np.random.default_rng((config.seed, 2, step))
        chunk = chunks[rng.integers(len(chunks))]
        windows = step < config.crop_steps * config.steps
        count = config.batch if windows else max(1, config.batch * config.crop**2 // (height * width))
        images, nouns, colors, labels, masks = [], [], [], [], []
        for row in rng.choice(len(chunk), count, replace=False):
            image, index_map, segments = chunk.images[row], chunk.index_maps[row], chunk.segments[row]
            if windows:
                window = draw_window(index_map, segments, config.crop, rng)
                image, index_map = image[window], index_map[window]
            if rng.random() < 0.5:  # scenes have no left and right that a label names
                image, index_map = image[:, ::-1], index_map[:, ::-1]
            images.append(image)
            noun, color = token_targets(index_map, segments, PATCH)
            nouns.append(noun)
            colors.append(color)
            if len(labels) < config.decoded * count:
                shares = np.bincount(index_map.ravel(), minlength=len(segments)) / index_map.size
                drawn = draw_labels(segments, shares, config.labels, rng)
                labels.append([rows[label] for label in drawn])
                masks.append(np.stack([mask_of(label, segments, index_map) for label in drawn]))
        spare = [(whole - side) // PATCH for whole, side in zip((height, width), images[0].shape, strict=False)]
        corner = tuple(int(rng.integers(most + 1)) for most in spare)
        yield Batch(*map(np.stack, (images, nouns, colors, labels, masks)), corner)
        step += 1


class TokenLoss(nn.Module):
    """Ask the blocks before FiLM for tokens that match their noun's and their colour's text (deep supervision).

    Every label competes at every token for the price of one matrix product, where decoding a label costs a block and
    the head. Only training needs it.
    """

    def __init__(self, width: int, nouns: Tensor, colors: Tensor, stuff: float = 0.3):
        super().__init__()
        self.project = nn.Linear(width, nouns.shape[1])
        # Text embeddings share a large common part, which tells nothing apart.
        for name, table in (("nouns", nouns), ("colors", colors)):
            self.register_buffer(name, F.normalize(table - table.mean(dim=0), dim=1).T, persistent=False)
        weight = torch.where(torch.arange(len(nouns)) < len(BASE_NOUNS), 1.0, stuff)
        self.register_buffer("weight", weight.to(nouns.device), persistent=False)

    def forward(self, tokens: Tensor, nouns: Tensor, colors: Tensor) -> Tensor:
        """Compare tokens (B,P,D) with the indices (B,P) of their nouns and colours; -1 counts nowhere."""
        embedding = 20 * F.normalize(self.project(tokens).float(), dim=-1).flatten(0, 1)
        loss = F.cross_entropy(embedding @ self.nouns, nouns.flatten(), self.weight, ignore_index=-1)
        if (colors >= 0).any():
            loss = loss + 0.3 * F.cross_entropy(embedding @ self.colors, colors.flatten(), ignore_index=-1)
        return loss


def mask_loss(logits: Tensor, masks: Tensor, balance: float = 0.0) -> Tensor:
    """Binary cross-entropy over all pixels plus Dice over present labels, so that thin things count too.

    logits: (B,K,H,W). masks: (B,K,H,W) bool. balance: from 0, every pixel of a map counts the same, to 1, the pixels
    inside a mask count together as much as those outside. A fresh decoder needs balance: things cover a few percent
    of a picture, and without it predicting nothing at all is a minimum that it does not leave.
    """
    logits, masks = logits.float().flatten(2), masks.float().flatten(2)
    share = masks.mean(dim=2, keepdim=True)
    even = torch.where(masks > 0, 0.5 / share.clamp(min=0.005), 0.5 / (1 - share).clamp(min=0.05))
    weight = balance * even + (1 - balance)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, masks, weight)
    present = masks.any(dim=2)
    probability = logits.sigmoid()
    overlap = 2 * (probability * masks).sum(dim=2) + 1
    dice = 1 - overlap / (probability.sum(dim=2) + masks.sum(dim=2) + 1)
    return cross_entropy + 0.3 * dice[present].mean()


def competition_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of the softmax over all labels and "none of them", whose logit is 0, at every pixel.

    logits: (B,K,H,W). masks: (B,K,H,W) bool; a pixel may have several right labels ("ball", "red ball") or none. Binary
    cross-entropy asks each label alone; which of two labels is right where both claim a pixel is decided by this.
    """
    logits = logits.float()
    every = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    right = torch.cat([~masks.any(dim=1, keepdim=True), masks], dim=1)
    return (every.logsumexp(dim=1) - every.masked_fill(~right, -math.inf).logsumexp(dim=1)).mean()


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
    row, column = batch.corner
    whole = network.config.image.input_size(480, 640, PATCH)
    with torch.no_grad():
        # A window is told the positions that it would have in a whole picture: with them it attends as far.
        position = encoder.window_position(
            (whole[0] // PATCH, whole[1] // PATCH), slice(row, row + grid[0]), slice(column, column + grid[1])
        )
        states = encoder.hidden_states(images, network.config.decoder.layers, position)
    reduced = network.decoder.reduce(states)
    logits = network.decoder([part[: len(rows)] for part in reduced], table[rows], grid)
    of_masks = mask_loss(logits, masks, balance) + 0.5 * competition_loss(logits, masks)
    return of_masks + token_loss(reduced[0][:, 1:], nouns, colors)


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
    token_loss = TokenLoss(config.width, competing, colors).to(device)
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
