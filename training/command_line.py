"""What the training programs' command lines have in common."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

INTERRUPTED = 130  # exit status after Ctrl-C, SIGTERM or the time limit


def with_resume_flag(arguments: Sequence[str]) -> list[str]:
    """Let `--resume` stand alone: settings of two values otherwise ask for true or false."""
    return [
        "--resume=true" if word == "--resume" and following.lower() not in ("true", "false") else word
        for word, following in pairwise([*arguments, ""])
    ]
