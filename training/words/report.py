"""What the student has learned of the teacher, measured on phrases that it never saw, and on pairs of synonyms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
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
    """Measure how near synonyms lie to each other, pair by pair.

    Args:
        pairs: kinds of pairs, such as "trained" and "held_out", each a list of (name, other word).
        names: names among which the other word looks for its own.
        embedders: such as "teacher" and "student".

    Returns:
        For each kind: for each embedder the mean "cosine" and "found", the share of the other words whose nearest name
        is their own; and "pairs", each pair's cosines.
    """
    result = {}
    for kind, listed in pairs.items():
        entry: dict = {"pairs": {f"{name} - {word}": {} for name, word in listed}}
        for who, embed in embedders.items():
            bank, words = embed(names), embed([word for _, word in listed])
            own = embed([name for name, _ in listed])
            cosines = (own * words).sum(dim=1)
            best = (words @ bank.T).max(dim=1).values
            entry[who] = {
                "cosine": cosines.mean().item(),
                "found": (cosines >= best - 1e-4).float().mean().item(),
            }
            for pair, cosine in zip(entry["pairs"].values(), torch.round(cosines, decimals=3).tolist(), strict=True):
                pair[who] = round(cosine, 3)
        result[kind] = entry
    return result
