"""Train the small text encoder of synseg-everyday: `python -m training.pretrain_text --teacher FOLDER`.

It learns to embed nouns and short phrases as a sentence encoder does, a teacher several times its size, with words for
the same thing nearer to each other than the teacher has them. The phrases come from `training.words.phrases`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
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
from training.loop.schedule import autocast, parameter_groups
from training.networks import text_student as student
from training.networks.text_student import TEXT_FILE, WEIGHTS_FILE
from training.words import report, teacher
from training.words.lesson import Lesson, choose_phrases, draw, prepare
from training.words.merges import MERGES_FILE
from training.words.phrases import MEASURED_FILE, Phrase, read_phrases

CHECKPOINT_FILE = "last.pt"
PREFIXES = ("a", "the", "a photo of a")  # a phrase means the same behind them
NAMES = 1000  # among which the nearest to an unseen phrase is looked for


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


def check(config: PretrainTextConfig) -> None:
    """Raise ValueError for a setting that no run can have."""
    for name, least in (("steps", 1), ("batch", 8), ("width", 8), ("heads", 1), ("layers", 1), ("context_length", 4)):
        if getattr(config, name) < least:
            raise ValueError(f"--{name} is {getattr(config, name)}; it must be {least} or more.")
    if config.width % config.heads:
        raise ValueError(f"--width {config.width} is no multiple of --heads {config.heads}; choose one that is.")
    if not 0 <= config.prefixes <= 1:
        raise ValueError(f"--prefixes is {config.prefixes}; it is a share from 0 to 1.")


def choose_device(name: str) -> torch.device:
    """Turn --device into a device of torch; raise ValueError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(f"--device {name} cannot be used ({why}); give auto, cpu, or cuda.") from None


def loss_of(embedded: Tensor, target: Tensor, relational: float, related: int) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch.

    It is 1 - cosine, plus `relational` times the mean squared difference between the student's and the teacher's
    similarities among the first `related` phrases.

    Args:
        embedded: (B,D) the student's embeddings, of any length.
        target: (B,D) of length 1.
        relational: weight of the second term.
        related: phrases that the second term compares with each other.

    Returns:
        The loss, and the mean cosine of the embeddings with their targets.
    """
    embedded = F.normalize(embedded.float(), dim=-1)
    cosine = (embedded * target).sum(dim=-1).mean()
    few, same = embedded[:related], target[:related]
    difference = (few @ few.T - same @ same.T).square().mean()
    return 1 - cosine + relational * difference, cosine


def rate(progress: float, step: int, warmup: int) -> float:
    """Return the share of the learning rate: a rise over `warmup` steps, then half a cosine over progress 0 to 1."""
    return min(1.0, (step + 1) / max(1, warmup)) * max(0.01, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def learn(config: PretrainTextConfig, tower: TextTransformer, lesson: Lesson, prefixes: list[Tensor]) -> dict:
    """Train the tower in place; returns the number of steps and the seconds, those before a resumption included."""
    device = lesson.tokens.device
    groups = parameter_groups(tower, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=device.type == "cuda")
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
            rows = draw(lesson, config.batch, torch.Generator(device).manual_seed(1_000_003 * config.seed + step))
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
            if step % 20 == 0:  # reading a number waits for the GPU
                bar.set_postfix(loss=f"{loss.item():.4f}", cosine=f"{cosine.item():.4f}", refresh=False)
                if not math.isfinite(loss.item()):
                    raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower --learning_rate")
            now = time.monotonic()
            seconds = before + now - started
            if now - saved > config.save_every:
                saved = now
                state = {"tower": tower.state_dict(), "optimizer": optimizer.state_dict()}
                write_whole(path, partial(torch.save, {**state, "step": step, "seconds": seconds}))
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
    measured = json.loads((data / MEASURED_FILE).read_text(encoding="utf-8"))
    merges = (data / MERGES_FILE).read_bytes()
    write_whole(output / MERGES_FILE, lambda file: file.write(merges))
    tokenizer = student.load_tokenizer(output / MERGES_FILE, config.context_length)
    words = [text for phrase in phrases for text in (phrase.text, *phrase.others)]
    words += [*measured["names"], *(text for pairs in measured["pairs"].values() for pair in pairs for text in pair)]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(words))}
    embedded = teacher.embed_once(Path(config.teacher), list(row_of), device, output)
    mean = embedded[[row_of[name] for name in measured["names"]]].mean(dim=0)
    tokens = student.tokenize(tokenizer, [phrase.text for phrase in phrases])
    lesson = prepare(phrases, tokens, embedded, row_of, mean, config.alpha, config.held_out)

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
    size = sum(parameter.numel() for parameter in tower.parameters())
    learned = sum(len(rows) for rows in lesson.rows.values())
    print(f"{learned:,} phrases to learn, {len(lesson.held_out):,} held out, {size / 1e6:.2f} M parameters, {device}")
    spent = learn(config, tower, lesson, [torch.tensor(tokenizer.encode(words), device=device) for words in PREFIXES])

    tower.half().float().eval()  # measured as it is shipped
    student_embed = partial(student.embed, tower, tokenizer)

    def teacher_embed(texts: Sequence[str]) -> Tensor:
        return F.normalize(embedded[[row_of[text] for text in texts]] - mean, dim=-1)

    results = measure(student_embed, teacher_embed, phrases, lesson, measured)
    tensors = {name: tensor.half().cpu().contiguous() for name, tensor in tower.state_dict().items()}
    write_whole(output / WEIGHTS_FILE, lambda file: file.write(save(tensors, metadata={"format": "pt"})))
    settings = {**asdict(config), "teacher": Path(config.teacher).name}
    made = {"text_cfg": text_cfg, "training": settings, "results": {"phrases": learned, **spent, **results}}
    write_whole(output / TEXT_FILE, lambda file: file.write(json.dumps(made, indent=1).encode("utf-8")))
    print(f"wrote {output}")
    return output


def measure(
    student_embed: Callable[[Sequence[str]], Tensor],
    teacher_embed: Callable[[Sequence[str]], Tensor],
    phrases: Sequence[Phrase],
    lesson: Lesson,
    measured: dict,
) -> dict:
    """Measure unseen phrases and pairs of synonyms; print the numbers and return them.

    measured: the "names" and "pairs" of `training.words.phrases`.
    """
    row_of = {phrase.text: row for row, phrase in enumerate(phrases)}
    names = [row_of[name] for name in measured["names"] if name in row_of][:NAMES]
    bank = student_embed([phrases[row].text for row in names])
    unseen = lesson.held_out.tolist()
    held_out = {}
    for kind in ("all", *sorted({phrases[row].kind for row in unseen})):
        rows = [row for row in unseen if kind in ("all", phrases[row].kind)]
        embedded = student_embed([phrases[row].text for row in rows])
        found = report.agreement(embedded, lesson.targets[rows], bank, lesson.targets[names])
        held_out[kind] = {**found, "phrases": len(rows)}
        print(f"unseen, {kind}: cosine {found['cosine']:.3f}, nearest name {found['nearest']:.1%} of {len(rows):,}")
    embedders = {"teacher": teacher_embed, "student": student_embed}
    synonyms = report.pair_cosines(measured["pairs"], measured["names"], embedders)
    for kind, entry in synonyms.items():
        numbers = [f"{who} {entry[who]['cosine']:.3f} (found {entry[who]['found']:.0%})" for who in embedders]
        print(f"synonyms, {kind}: cosine {', '.join(numbers)}")
    return {"held_out": held_out, "synonyms": synonyms}


if __name__ == "__main__":
    train(jsonargparse.auto_cli(PretrainTextConfig, as_positional=False))
