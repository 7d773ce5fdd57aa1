"""What the student has learned of the teacher, measured on phrases that it never saw, and on pairs of synonyms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

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
