"""What the student has learned of the teacher, measured on phrases that it never saw, and on pairs of synonyms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from training.words.lesson import Lesson
from training.words.phrases import Phrase

NAMES = 1000  # among which the nearest to an unseen phrase is looked for
Embed = Callable[[Sequence[str]], Tensor]  # texts to (N,D) of length 1


def agreement(student: Tensor, target: Tensor, student_names: Tensor, target_names: Tensor) -> dict[str, float]:
    """Compare the student's embeddings (N,D) of unseen phrases with their targets, and the nearest of names (M,D).

    Returns:
        "cosine": mean cosine of a phrase with its target, -1 to 1. "nearest": share of the phrases, 0 to 1, whose
        nearest name is the teacher's.
    """
    nearest = (student @ student_names.T).argmax(dim=1) == (target @ target_names.T).argmax(dim=1)
    return {
        "cosine": F.cosine_similarity(student, target).mean().item(),
        "nearest": nearest.float().mean().item(),
    }


def pair_cosines(
    pairs: Mapping[str, Sequence[Sequence[str]]], names: Sequence[str], embedders: Mapping[str, Embed]
) -> dict[str, dict]:
    """Measure how near words for the same thing lie to each other.

    Args:
        pairs: kinds of pairs, such as "trained" and "held_out", each a list of (name, other word).
        names: one name for each thing; each other word looks for its own among them.
        embedders: such as "teacher" and "student".

    Returns:
        For each kind: for each embedder the mean "cosine" of its pairs and "found", the share of the other words whose
        nearest name is their own; and "pairs", each pair's cosines.
    """
    result = {}
    for kind, listed in pairs.items():
        entry: dict = {"pairs": {f"{name} - {word}": {} for name, word in listed}}
        for who, embed in embedders.items():
            own, words = embed([name for name, _ in listed]), embed([word for _, word in listed])
            cosines = (own * words).sum(dim=1)
            nearest = (words @ embed(names).T).argmax(dim=1).tolist()
            found = sum(names[i] == name for i, (name, _) in zip(nearest, listed, strict=True))
            entry[who] = {"cosine": cosines.mean().item(), "found": found / len(listed)}
            for pair, cosine in zip(entry["pairs"].values(), cosines.tolist(), strict=True):
                pair[who] = round(cosine, 3)
        result[kind] = entry
    return result


def measure(
    student_embed: Embed,
    teacher_embed: Embed,
    phrases: Sequence[Phrase],
    lesson: Lesson,
    measured: dict,
) -> dict:
    """Measure unseen phrases and pairs of synonyms, and print the numbers.

    Args:
        student_embed, teacher_embed: embed texts, (N,D) of length 1.
        phrases: all phrases, in the order of the lesson.
        lesson: which of them are held out, and the targets.
        measured: the "names" and "pairs" of `training.words.phrases`.

    Returns:
        The numbers: "held_out" by kind of phrase, and "synonyms".
    """
    row_of = {phrase.text: row for row, phrase in enumerate(phrases)}
    names = [row_of[name] for name in measured["names"] if name in row_of][:NAMES]
    bank = student_embed([phrases[row].text for row in names])
    unseen = lesson.held_out.tolist()
    held_out = {}
    for kind in ("all", *sorted({phrases[row].kind for row in unseen})):
        rows = [row for row in unseen if kind in ("all", phrases[row].kind)]
        embedded = student_embed([phrases[row].text for row in rows])
        found = agreement(embedded, lesson.targets[rows], bank, lesson.targets[names])
        held_out[kind] = {**found, "phrases": len(rows)}
        print(f"unseen, {kind}: cosine {found['cosine']:.3f}, nearest name {found['nearest']:.1%} of {len(rows):,}")
    embedders = {"teacher": teacher_embed, "student": student_embed}
    synonyms = pair_cosines(measured["pairs"], measured["names"], embedders)
    for kind, entry in synonyms.items():
        numbers = [f"{who} {entry[who]['cosine']:.3f} (found {entry[who]['found']:.0%})" for who in embedders]
        print(f"synonyms, {kind}: cosine {', '.join(numbers)}")
    return {"held_out": held_out, "synonyms": synonyms}
