"""What the text encoder learns: token ids, targets, and which phrases a batch shows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.loop.trainer import Share
from training.networks.text_student import prefixed
from training.objective.batch import PhraseBatch
from training.words.phrases import KINDS, Phrase
from training.words.teacher import targets

SHARES = {"name": 0.15, "plural": 0.05, "noun": 0.35, "caption": 0.2, "adjective": 0.25}  # of a batch
ALWAYS_LEARNED = ("name", "plural")


@dataclass(frozen=True)
class Lesson:
    """Token ids (N,L) and targets (N,D) of all phrases; the rows to learn, by kind; and the rows held out."""

    tokens: Tensor
    targets: Tensor
    rows: dict[str, Tensor]
    held_out: Tensor


def mixed(phrase: Phrase) -> int:
    """Give a phrase its place in an order that has nothing to do with its meaning and never changes."""
    return zlib.crc32(phrase.text.encode("utf-8"))


def choose_phrases(phrases: Sequence[Phrase], limit: int) -> list[Phrase]:
    """Keep at most `limit` phrases of each kind, chosen by their spelling; 0 keeps all."""
    if not limit:
        return list(phrases)
    kept = {kind: [phrase for phrase in phrases if phrase.kind == kind] for kind in KINDS}
    return [phrase for listed in kept.values() for phrase in sorted(listed, key=mixed)[:limit]]


def prepare(
    phrases: Sequence[Phrase], tokens: Tensor, embedded: Tensor, row_of: Mapping[str, int], mean: Tensor, alpha: float,
    held_out: int,
) -> Lesson:  # fmt: skip
    """Set the targets and keep some phrases out of training, but no names and no plurals.

    Args:
        phrases: N phrases.
        tokens: (N,L) their token ids.
        embedded: (M,D) the teacher's embeddings, and row_of: where those of a text are.
        mean: (D,) subtracted from the teacher's embeddings.
        alpha: strength with which synonyms are pulled together.
        held_out: phrases to keep out, at most half of those that may be.
    """
    device = embedded.device
    free = [row for row, phrase in enumerate(phrases) if phrase.kind not in ALWAYS_LEARNED]
    free.sort(key=lambda row: mixed(phrases[row]))
    kept_out = set(free[: min(held_out, len(free) // 2)])
    rows: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for row, phrase in enumerate(phrases):
        if row not in kept_out:
            rows[phrase.kind].append(row)
    groups = [[row_of[text] for text in (phrase.text, *phrase.others)] for phrase in phrases]
    return Lesson(
        tokens.to(device),
        targets(embedded, mean, groups, alpha),
        {kind: torch.tensor(listed, device=device) for kind, listed in rows.items() if listed},
        torch.tensor(sorted(kept_out), dtype=torch.long, device=device),
    )


def draw(lesson: Lesson, batch: int, generator: torch.Generator) -> Tensor:
    """Draw the rows of a batch, of each kind its share, in random order."""
    device = generator.device
    scale = batch / sum(SHARES[kind] for kind in lesson.rows)
    drawn = []
    for kind, rows in lesson.rows.items():
        count = max(1, round(SHARES[kind] * scale))
        drawn.append(rows[torch.randint(len(rows), (count,), generator=generator, device=device)])
    drawn = torch.cat(drawn)
    return drawn[torch.randperm(len(drawn), generator=generator, device=device)]


class PhraseBatches:
    """Batches of phrases; what each step draws is a function of seed and step."""

    def __init__(self, lesson: Lesson, prefixes: Sequence[Tensor], share: float, seed: int):
        """Take what is learned.

        Args:
            lesson: phrases and targets.
            prefixes: token ids (W,) of words that a phrase means the same behind.
            share: of the phrases of a batch that are seen behind one of them.
            seed: of the draws.
        """
        self.lesson, self.prefixes, self.share, self.seed = lesson, prefixes, share, seed

    def __call__(self, share: Share) -> Iterator[list[PhraseBatch]]:
        """Yield the parts of each step, without end."""
        step = share.start
        while True:
            yield [self.part(step, number, share) for number in share.numbers()]
            step += 1

    def part(self, step: int, number: int, share: Share) -> PhraseBatch:
        """Draw a part of a step: its number among the parts of all processes decides what it shows."""
        device = self.lesson.tokens.device
        seed = 1_000_003 * self.seed + step + 1_000_000_007 * number
        rows = draw(self.lesson, share.size, torch.Generator(device).manual_seed(seed))
        tokens = self.lesson.tokens[rows]
        count = round(len(rows) * self.share / max(1, len(self.prefixes)))
        for place, words in enumerate(self.prefixes):
            some = slice(place * count, (place + 1) * count)
            tokens[some] = prefixed(tokens[some], words)
        return PhraseBatch(tokens, self.lesson.targets[rows])
