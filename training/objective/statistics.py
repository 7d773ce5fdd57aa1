"""What tells whether activation maps still say something: the trainer stops a run whose maps do not."""

from __future__ import annotations

from torch import Tensor


def activation_statistics(activation: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Measure the maps of present labels.

    Args:
        activation: (B,N,P) in [0, 1].
        present: (B,N) bool.

    Returns:
        Scalars: "activation/mean", and the standard deviations "activation/pixels" over pixels and "activation/labels"
        over the labels of an image, 1 where no image has two labels.
    """
    keep = present.unsqueeze(2)
    count = present.sum().clamp(min=1)
    labels = keep.sum(dim=1).clamp(min=1)  # (B, 1)
    middle = (activation * keep).sum(dim=1) / labels  # (B, P)
    spread = ((activation - middle.unsqueeze(1)) ** 2 * keep).sum(dim=1) / labels
    several = present.sum(dim=1) > 1  # one label has nothing to differ from
    return {
        "activation/mean": activation.mean(dim=2)[present].sum() / count,
        "activation/pixels": activation.std(dim=2)[present].sum() / count,
        "activation/labels": spread.sqrt().mean(dim=1)[several].mean() if several.any() else spread.new_ones(()),
    }
