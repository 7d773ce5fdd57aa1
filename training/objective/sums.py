"""An objective is a weighted sum of terms."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Name, weight and value. A value of several parts is a dictionary of them, of which "total" is what is weighted.
Term = tuple[str, float, "Tensor | dict[str, Tensor]"]


def weighted_sum(terms: Iterable[Term]) -> dict[str, Tensor]:
    """Add terms up, in their order.

    Args:
        terms: at least one.

    Returns:
        Scalars: "total", and every term or its parts by name.
    """
    total: Tensor | float = 0.0
    found: dict[str, Tensor] = {}
    for name, weight, value in terms:
        parts = dict(value) if isinstance(value, dict) else {name: value}
        total = total + weight * parts.pop("total", value)
        found |= parts
    return {"total": torch.as_tensor(total), **found}
