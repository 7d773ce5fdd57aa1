"""What the processes of a run tell each other, so that a part's memory is the same in all of them."""

from __future__ import annotations

from typing import Any

from torch import distributed


def gathered(value: Any) -> list[Any]:
    """Return the value of every process in the order of their ranks; `[value]` where there is only one process."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
