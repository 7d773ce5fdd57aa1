"""What the training programs' command lines have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jsonargparse

from training.loop.collapse import CollapseError

INTERRUPTED = 130  # exit status after Ctrl-C, SIGTERM or the time limit


def run_program(kind: type, main: Callable[[Any], object], arguments: Sequence[str] | None) -> int:
    """Read a config of `kind` from the command line and hand it to `main`.

    Returns 0, or 2 for what the user can put right, which is said in one line.
    """
    try:
        main(jsonargparse.auto_cli(kind, args=arguments, as_positional=False))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run_training(kind: type, train: Callable[[Any], object], arguments: Sequence[str] | None) -> int:
    """Read a config of `kind` as `run_program` does, `--resume` alone and `--print-config` included, and train.

    Returns 0, 2 for what the user can put right, 130 where `train` returned nothing: a signal or the time stopped it.
    """
    arguments = with_resume_flag(arguments or sys.argv[1:])
    try:
        config = jsonargparse.auto_cli(kind, args=arguments, as_positional=False, print_config="--print-config")
        return 0 if train(config) else INTERRUPTED
    except (ValueError, OSError, CollapseError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def with_resume_flag(arguments: Sequence[str]) -> list[str]:
    """Let `--resume` stand alone: settings of two values otherwise ask for true or false."""
    return [
        "--resume=true" if word == "--resume" and following.lower() not in ("true", "false") else word
        for word, following in pairwise([*arguments, ""])
    ]
