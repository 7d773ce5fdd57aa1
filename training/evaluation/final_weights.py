"""Which weights of a run the finished model gets: the last ones, the best ones, or their mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn


def candidate_weights(averaged: nn.Module, best: Path) -> dict[str, dict[str, Tensor]]:
    """Return weights to choose among, rounded to half precision as the model folder holds them.

    Rooms gain until the end of a run, and sets with few photographs are overlearned by then. So the weights that
    measured best while training may be better than the last ones, and the mean of both better than either.

    Args:
        averaged: the averaged network at the end of the run.
        best: file of the weights that measured best, if there is one.

    Returns:
        "last", "best" and "mean", by name of each tensor.
    """
    last = {name: value.detach().cpu() for name, value in averaged.state_dict().items()}
    found = {"last": last}
    if best.exists():
        found["best"] = load_file(best)
        found["mean"] = {
            name: value.lerp(found["best"][name], 0.5) if value.is_floating_point() else value
            for name, value in last.items()
        }
    return {
        kind: {name: value.half().float() if value.is_floating_point() else value for name, value in weights.items()}
        for kind, weights in found.items()
    }


def final_score(results: dict[str, dict]) -> float:
    """Average the mIoU of rooms and streets, all names given, and of objects, those present given."""
    values = [results[name]["miou"] for name in ("nyu", "camvid", "voc present") if name in results]
    return sum(values) / len(values) if values else 0.0


def choose_weights(
    averaged: nn.Module, best: Path, measure: Callable[[], dict[str, dict]]
) -> tuple[str, dict[str, dict]]:
    """Put the weights with the best final score into a network.

    Args:
        averaged: the averaged network at the end of the run; it gets the chosen weights.
        best: file of the weights that measured best while training, if there is one.
        measure: measures `averaged` as it is.

    Returns:
        The kind of weights, see `candidate_weights`, and what they reach.
    """
    candidates, measured = candidate_weights(averaged, best), {}
    for kind, weights in candidates.items():
        averaged.load_state_dict(weights)
        measured[kind] = measure()
    chosen = max(candidates, key=lambda kind: final_score(measured[kind]))
    averaged.load_state_dict(candidates[chosen])
    return chosen, measured[chosen]
