"""Progress on the terminal, and log lines that do not tear it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["LogAboveProgressBar", "hide_progress_bars", "progress_bar"]

_hidden = False


def hide_progress_bars() -> None:
    """Show no progress from now on, in a process whose stderr nobody reads."""
    global _hidden
    _hidden = True


def progress_bar(work: Iterable | None, total: int | None, kept: int = 0, unit: str = "img") -> tqdm:
    """Show progress on stderr, with the speed and the time left; often on a terminal, seldom in a log.

    Args:
        work: what to iterate over; None for a bar that its user moves.
        total: number of items in all, None where nobody knows. A single item gets no bar.
        kept: number of items that an earlier run has done.
        unit: name of one item.
    """
    from tqdm import tqdm

    interactive = sys.stderr.isatty()
    return tqdm(
        work,
        total=total,
        initial=kept,
        unit=unit,
        disable=_hidden or total == 1 or total == kept,
        mininterval=0.1 if interactive else 10.0,
        dynamic_ncols=interactive,
    )


class LogAboveProgressBar(logging.Handler):
    """Write log lines to stderr, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        from tqdm import tqdm

        tqdm.write(f"synseg: {record.getMessage()}", file=sys.stderr)
