"""Train the small text encoder of synseg-everyday: `python -m training.pretrain_text --teacher FOLDER`.

It learns to embed nouns and short phrases as its teacher does, a sentence encoder several times its size. Words for the
same thing come nearer to each other than the teacher has them. `training.words.phrases` makes the phrases.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from synseg_model.files import write_json, write_whole
from training.loop.command_line import run_training
from training.loop.config import TrainerConfig
from training.loop.trainer import Trainer
from training.networks import text_student as student
from training.networks.text_student import TEXT_FILE, WEIGHTS_FILE
from training.objective.distillation import DistillationObjective
from training.words import teacher
from training.words.lesson import PhraseBatches, choose_phrases, prepare
from training.words.merges import MERGES_FILE
from training.words.phrases import MEASURED_FILE, read_phrases
from training.words.report import measure

PREFIXES = ("a", "the", "a photo of a")  # a phrase means the same behind them


@dataclass
class PretrainTextConfig:
    """All settings of the text encoder's training.

    Args:
        teacher: folder with config.json, tokenizer.json and model.safetensors, such as all-MiniLM-L6-v2's.
        data: folder that `training.words.phrases` wrote.
        relational: weight of the term that matches the similarities among a batch's phrases to the teacher's.
        related: phrases of the batch among which similarities are matched.
        alpha: strength with which synonyms are pulled together; 0 learns the teacher as it is.
        prefixes: share of the phrases that are seen behind "a", "the" or "a photo of a", from 0 to 1.
        width: channels of the text encoder, a multiple of `heads`.
        heads: its attention heads.
        layers: its blocks.
        context_length: most tokens that it reads, start and end marks included.
        held_out: phrases that are kept out of training and measured.
        phrases: phrases of each kind that are used; 0 for all, fewer for a trial run.
        trainer: device, steps, learning rates, checkpoints. `trainer.output` is also the folder of the finished
            text.safetensors, text.json and merges.txt.gz. `trainer.batch` counts phrases. Limits of time do not count
            the time in which the teacher embeds the phrases.
        resume: continue from the last checkpoint in `trainer.output`.
    """

    teacher: str
    data: str = "runs/text-data"
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
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            output="runs/text", steps=20_000, batch=4096, precision="fast", betas=(0.9, 0.98), learning_rate=2e-3,
            warmup=300, least_rate=0.01, clip_norm=1.0, ema=0.0, save_every=1_000, log_every=20, image_every=0,
        )
    )  # fmt: skip
    resume: bool = False


def check(config: PretrainTextConfig) -> None:
    """Raise ValueError for a setting that no run can have."""
    for name, least in (("width", 8), ("heads", 1), ("layers", 1), ("context_length", 4)):
        if getattr(config, name) < least:
            raise ValueError(f"--{name} is {getattr(config, name)}; it must be {least} or more.")
    if config.trainer.batch < 8:
        raise ValueError(f"--trainer.batch is {config.trainer.batch}; it must be 8 or more.")
    if config.width % config.heads:
        raise ValueError(f"--width {config.width} is no multiple of --heads {config.heads}; choose one that is.")
    if not 0 <= config.prefixes <= 1:
        raise ValueError(f"--prefixes is {config.prefixes}; it is a share from 0 to 1.")


def train(config: PretrainTextConfig) -> Path | None:
    """Train and return the output folder; None where a signal or the time limit ended the run before.

    Raises:
        ValueError: a setting, the data or the teacher is none that can be used.
    """
    check(config)
    trainer = Trainer(config.trainer)
    device, output, data = trainer.fabric.device, trainer.output, Path(config.data)
    phrases = choose_phrases(read_phrases(data), config.phrases)
    measured = json.loads((data / MEASURED_FILE).read_text(encoding="utf-8"))
    merges = (data / MERGES_FILE).read_bytes()
    trainer.first_alone(lambda: write_whole(output / MERGES_FILE, lambda file: file.write(merges)))
    tokenizer = student.load_tokenizer(output / MERGES_FILE, config.context_length)
    words = [text for phrase in phrases for text in (phrase.text, *phrase.others)]
    words += [*measured["names"], *(text for pairs in measured["pairs"].values() for pair in pairs for text in pair)]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(words))}
    embed = partial(teacher.embed_once, Path(config.teacher), list(row_of), device, output)
    embedded = trainer.first_alone(embed)
    mean = embedded[[row_of[name] for name in measured["names"]]].mean(dim=0)
    tokens = student.tokenize(tokenizer, [phrase.text for phrase in phrases])
    lesson = prepare(phrases, tokens, embedded, row_of, mean, config.alpha, config.held_out)

    torch.manual_seed(config.trainer.seed)
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
    trainer.fabric.print(
        f"{learned:,} phrases to learn, {len(lesson.held_out):,} held out, {size / 1e6:.2f} M parameters, {device}"
    )
    prefixes = [torch.tensor(tokenizer.encode(words), device=device) for words in PREFIXES]
    batches = PhraseBatches(lesson, prefixes, config.prefixes, config.trainer.seed)
    objective = DistillationObjective(tower, config.relational, config.related)
    tower = trainer.fit(objective, batches, resume=config.resume)
    if tower is None:
        return None
    if trainer.fabric.is_global_zero:
        tower.half().float().eval()  # measured as it is shipped

        def teacher_embed(texts: Sequence[str]) -> Tensor:
            return F.normalize(embedded[[row_of[text] for text in texts]] - mean, dim=-1)

        results = measure(partial(student.embed, tower, tokenizer), teacher_embed, phrases, lesson, measured)
        tensors = {name: tensor.half().cpu().contiguous() for name, tensor in tower.state_dict().items()}
        write_whole(output / WEIGHTS_FILE, lambda file: file.write(save(tensors, metadata={"format": "pt"})))
        spent = {"steps": trainer.progress.step, "seconds": round(trainer.progress.seconds, 1)}
        settings = {**asdict(config), "teacher": Path(config.teacher).name}
        made = {"text_cfg": text_cfg, "training": settings, "results": {"phrases": learned, **spent, **results}}
        write_json(output / TEXT_FILE, made, indent=1)
        print(f"wrote {output}")
    trainer.fabric.barrier()
    return output


def run(arguments: list[str] | None = None) -> int:
    """Read the command line and train; returns 0, 2 for what the user can put right, 130 where it was stopped."""
    return run_training(PretrainTextConfig, train, arguments)


if __name__ == "__main__":
    sys.exit(run())
