"""Train the small text encoder of synseg-everyday: `python -m training.pretrain_text --teacher FOLDER`.

It learns to embed nouns and short phrases as a sentence encoder does, a teacher four times its size or more, with
words for the same thing nearer to each other than the teacher has them. Phrases come from `training.words.phrases`.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jsonargparse
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from synseg_model.files import write_whole
from training.schedule import autocast, parameter_groups
from training.words import report, student, teacher
from training.words.phrases import KINDS, PAIRS_FILE, Phrase, read_phrases

CHECKPOINT_FILE, WEIGHTS_FILE, TEXT_FILE, MERGES_FILE = "last.pt", "text.safetensors", "text.json", "merges.txt.gz"
SHARES = {"name": 0.15, "plural": 0.05, "noun": 0.35, "caption": 0.2, "adjective": 0.25}
PREFIXES = ("a", "the", "a photo of a")  # a phrase means the same behind them
NAMES = 1000  # among which the nearest is looked for


@dataclass
class PretrainTextConfig:
    """Settings of the text encoder's training.

    Args:
        teacher: folder with config.json, tokenizer.json and model.safetensors, such as all-MiniLM-L6-v2's.
        data: folder that `training.words.phrases` wrote.
        output: folder for the checkpoint and the finished text.safetensors, text.json and merges.txt.gz.
        steps: optimiser steps; the learning rate falls along a cosine over them.
        max_minutes: where this ends first, the learning rate falls over this time instead; 0 sets no limit. Embedding
            the phrases with the teacher is not counted.
        batch: phrases in a step.
        learning_rate: the highest, after `warmup` steps.
        weight_decay: of matrices; vectors have none.
        relational: weight of the term that matches similarities among a batch's phrases to the teacher's.
        related: phrases of the batch among which similarities are matched.
        alpha: strength with which synonyms are pulled together; 0 learns the teacher as it is.
        prefixes: share of the phrases that are seen behind "a", "the" or "a photo of a".
        width: of the tower; heads, layers and context_length are its too.
        held_out: phrases that are kept out of training and measured.
        phrases: phrases used of each kind; 0 for all, fewer for a trial run.
        save_every: seconds between checkpoints.
        device: "auto" takes a GPU where there is one; or "cpu", "cuda", "cuda:1".
        resume: go on from the checkpoint in `output`.
    """

    teacher: str
    data: str = "runs/text-data"
    output: str = "runs/text"
    steps: int = 20_000
    max_minutes: float = 0.0
    batch: int = 4096
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 300
    relational: float = 10.0
    related: int = 1024
    alpha: float = 1.0
    prefixes: float = 0.15
    width: int = 256
    heads: int = 4
    layers: int = 3
    context_length: int = 16
    held_out: int = 2000
    phrases: int = 0
    save_every: float = 60.0
    seed: int = 0
    device: str = "auto"
    resume: bool = False


@dataclass(frozen=True)
class Lesson:
    """What is learned: token ids (N,L) and targets (N,D), rows to learn of each kind, and rows held out."""

    tokens: Tensor
    targets: Tensor
    rows: dict[str, Tensor]
    held_out: Tensor


def choose_phrases(phrases: Sequence[Phrase], limit: int) -> list[Phrase]:
    """Keep at most `limit` phrases of each kind, chosen by their spelling; 0 keeps all."""
    if not limit:
        return list(phrases)
    kept = {kind: [phrase for phrase in phrases if phrase.kind == kind] for kind in KINDS}
    return [phrase for listed in kept.values() for phrase in sorted(listed, key=_mixed)[:limit]]


def _mixed(phrase: Phrase) -> int:
    """Give a phrase its place in an order that has nothing to do with its spelling and never changes."""
    return zlib.crc32(phrase.text.encode("utf-8"))


def prepare(
    phrases: Sequence[Phrase], embedded: Tensor, row_of: dict[str, int], mean: Tensor, tokens: Tensor, alpha: float,
    held_out: int,
) -> Lesson:  # fmt: skip
    """Set targets and keep some phrases out of training, never names."""
    groups = [[row_of[text] for text in (phrase.text, *phrase.others)] for phrase in phrases]
    device = embedded.device
    free = sorted((i for i, p in enumerate(phrases) if p.kind not in ("name", "plural")), key=lambda i: _mixed(phrases[i]))
    kept_out = set(free[: min(held_out, len(free) // 2)])
    rows = {
        kind: torch.tensor([i for i, p in enumerate(phrases) if p.kind == kind and i not in kept_out], device=device)
        for kind in KINDS
    }
    return Lesson(
        tokens.to(device),
        teacher.targets(embedded, mean, groups, alpha),
        {kind: listed for kind, listed in rows.items() if len(listed)},
        torch.tensor(sorted(kept_out), device=device),
    )


def draw(lesson: Lesson, batch: int, generator: torch.Generator) -> Tensor:
    """Draw the rows of a batch, of each kind its share."""
    shares = {kind: SHARES[kind] for kind in lesson.rows}
    scale = batch / sum(shares.values())
    drawn = [
        listed[torch.randint(len(listed), (max(1, round(shares[kind] * scale)),), generator=generator, device=listed.device)]
        for kind, listed in lesson.rows.items()
    ]
    rows = torch.cat(drawn)
    return rows[torch.randperm(len(rows), generator=generator, device=rows.device)]


def loss_of(embedded: Tensor, target: Tensor, relational: float, related: int) -> tuple[Tensor, Tensor]:
    """Return the loss and, for the log, the mean cosine of embeddings (B,D) with their targets (B,D).

    1 - cosine, plus `relational` times the mean squared difference of the similarities among the first `related`
    phrases, the student's and the teacher's.
    """
    embedded = F.normalize(embedded.float(), dim=-1)
    cosine = (embedded * target).sum(dim=-1).mean()
    few, same = embedded[:related], target[:related]
    difference = (few @ few.T - same @ same.T).square().mean()
    return 1 - cosine + relational * difference, cosine


def rate(progress: float, step: int, warmup: int) -> float:
    """Return the share of the learning rate: a rise over `warmup` steps, then half a cosine over progress 0 to 1."""
    return min(1.0, (step + 1) / max(1, warmup)) * max(0.01, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def choose_device(name: str) -> torch.device:
    """Turn --device into a device of torch."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used ({str(error).splitlines()[0]}); give auto, cpu or cuda.") from None


def check(config: PretrainTextConfig) -> None:
    """Raise ValueError for a setting that no run can have."""
    for name, least in (("steps", 1), ("batch", 8), ("width", 8), ("heads", 1), ("layers", 1), ("context_length", 4)):
        if getattr(config, name) < least:
            raise ValueError(f"--{name} is {getattr(config, name)}; it must be {least} or more.")
    if config.width % config.heads:
        raise ValueError(f"--width {config.width} is no multiple of --heads {config.heads}; choose one that is.")
    if not 0 <= config.prefixes <= 1:
        raise ValueError(f"--prefixes is {config.prefixes}; it is a share from 0 to 1.")


def learn(config: PretrainTextConfig, tower: TextTransformer, lesson: Lesson, prefixes: list[Tensor]) -> dict[str, float]:
    """Train the tower in place; returns how long it took."""
    device = lesson.tokens.device
    optimizer = torch.optim.AdamW(parameter_groups(tower, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98))
    path = Path(config.output) / CHECKPOINT_FILE
    step, before = 0, 0.0
    if config.resume and path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        tower.load_state_dict(state["tower"])
        optimizer.load_state_dict(state["optimizer"])
        step, before = state["step"], state["seconds"]
    started = saved = time.monotonic()
    seconds = before
    with tqdm(total=config.steps, initial=step, desc="text", unit="step", mininterval=2) as bar:
        while step < config.steps:
            progress = step / config.steps
            if config.max_minutes:
                progress = max(progress, seconds / (60 * config.max_minutes))
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * rate(progress, step, config.warmup)
            generator = torch.Generator(device).manual_seed(1_000_003 * config.seed + step)
            rows = draw(lesson, config.batch, generator)
            tokens = lesson.tokens[rows]
            share = round(len(rows) * config.prefixes / max(1, len(prefixes)))
            for number, words in enumerate(prefixes):
                part = slice(number * share, (number + 1) * share)
                tokens[part] = student.prefixed(tokens[part], words)
            with autocast(device):
                embedded = student.encode(tower, tokens)
            loss, cosine = loss_of(embedded, lesson.targets[rows], config.relational, config.related)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
            optimizer.step()
            step += 1
            bar.update()
            if step % 20 == 0 or device.type == "cpu":  # reading a number waits for the GPU
                bar.set_postfix(loss=f"{loss.item():.4f}", cosine=f"{cosine.item():.4f}", refresh=False)
                if not math.isfinite(loss.item()):
                    raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower --learning_rate")
            now = time.monotonic()
            seconds = before + now - started
            if now - saved > config.save_every:
                saved = now
                state = {"tower": tower.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}
                write_whole(path, partial(torch.save, state))
    return {"steps": step, "seconds": round(seconds, 1)}


def train(config: PretrainTextConfig) -> Path:
    """Train and return the output folder.

    Raises:
        ValueError: a setting, the data or the teacher is none that can be used.
    """
    check(config)
    device = choose_device(config.device)
    output, data = Path(config.output), Path(config.data)
    phrases = choose_phrases(read_phrases(data), config.phrases)
    pairs = json.loads((data / PAIRS_FILE).read_text(encoding="utf-8"))
    tokenizer = student.load_tokenizer(data / MERGES_FILE, config.context_length)
    words = [text for phrase in phrases for text in (phrase.text, *phrase.others)]
    words += [text for listed in pairs.values() for pair in listed for text in pair]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(words))}
    embedded = teacher.embed_once(Path(config.teacher), list(row_of), device, output)
    names = [phrase.text for phrase in phrases if phrase.kind == "name"]
    mean = embedded[[row_of[name] for name in names]].mean(dim=0)
    tokens = student.tokenize(tokenizer, [phrase.text for phrase in phrases])
    lesson = prepare(phrases, embedded, row_of, mean, tokens, config.alpha, config.held_out)

    torch.manual_seed(config.seed)
    text_cfg = {
        "context_length": config.context_length,
        "vocab_size": tokenizer.vocab_size,
        "width": config.width,
        "heads": config.heads,
        "layers": config.layers,
        "output_dim": embedded.shape[1],
    }
    tower = TextTransformer(**text_cfg).to(device).train()
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    learned = sum(len(rows) for rows in lesson.rows.values())
    print(f"{learned:,} phrases to learn, {len(lesson.held_out):,} held out, {parameters / 1e6:.2f} M parameters, {device}")
    prefixes = [torch.tensor(tokenizer.encode(words), device=device) for words in PREFIXES]
    spent = learn(config, tower, lesson, prefixes)

    tower.half().float().eval()  # measured as it is shipped
    results = measure(tower, tokenizer, phrases, lesson, pairs, (embedded, mean, row_of))
    results |= {"phrases": learned, "parameters": parameters, **spent}
    tensors = {name: tensor.half().cpu().contiguous() for name, tensor in tower.state_dict().items()}
    write_whole(output / WEIGHTS_FILE, lambda file: file.write(save(tensors, metadata={"format": "pt"})))
    write_whole(output / MERGES_FILE, lambda file: file.write((data / MERGES_FILE).read_bytes()))
    made = {"text_cfg": text_cfg, "training": {**asdict(config), "teacher": Path(config.teacher).name}, "results": results}
    write_whole(output / TEXT_FILE, lambda file: file.write(json.dumps(made, indent=1).encode("utf-8")))
    print(f"wrote {output}")
    return output


@torch.no_grad()
def measure(tower: TextTransformer, tokenizer, phrases: Sequence[Phrase], lesson: Lesson, pairs: dict, known: tuple) -> dict:
    """Measure unseen phrases and pairs of synonyms, print and return the numbers."""
    embedded, mean, row_of = known
    embed = partial(student.embed, tower, tokenizer)

    def as_teacher(texts: Sequence[str]) -> Tensor:
        return F.normalize(embedded[[row_of[text] for text in texts]] - mean, dim=-1)

    first = [i for i, phrase in enumerate(phrases) if phrase.kind == "name"][:NAMES]
    names = [phrases[i].text for i in first]
    unseen = [phrases[i] for i in lesson.held_out.tolist()]
    results: dict = {"held_out": {}}
    for kind in ("all", *sorted({phrase.kind for phrase in unseen})):
        chosen = [k for k, phrase in enumerate(unseen) if kind in ("all", phrase.kind)]
        rows = lesson.held_out[chosen]
        results["held_out"][kind] = agreement = report.agreement(
            embed([unseen[k].text for k in chosen]), lesson.targets[rows], embed(names), lesson.targets[first]
        )
        agreement["phrases"] = len(chosen)
        print(f"unseen, {kind}: cosine {agreement['cosine']:.3f}, nearest name {agreement['nearest']:.1%} ({len(chosen):,})")
    results["synonyms"] = report.pair_cosines(pairs, list(dict.fromkeys(names)), {"teacher": as_teacher, "student": embed})
    for kind, entry in results["synonyms"].items():
        numbers = ", ".join(f"{who} {entry[who]['cosine']:.3f}" for who in ("teacher", "student"))
        print(f"synonyms, {kind}: cosine {numbers}")
    return results


if __name__ == "__main__":
    train(jsonargparse.auto_cli(PretrainTextConfig, as_positional=False))
