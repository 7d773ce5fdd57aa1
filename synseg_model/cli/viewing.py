"""The option --rerun, which several commands have: what they segment is shown in Rerun, or written for it."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from synseg_model.viewer.target import SPAWN, read_target

if TYPE_CHECKING:
    from synseg_model.viewer.viewer import Viewer

__all__ = ["add_rerun", "check_rerun", "viewing"]

logger = logging.getLogger(__name__)


def add_rerun(parser: argparse.ArgumentParser) -> None:
    """Add --rerun."""
    parser.add_argument(
        "--rerun",
        nargs="?",
        const=SPAWN,
        metavar="ADDRESS|FILE.rrd",
        help="show images, masks and objects in Rerun while they are segmented: in the viewer at ADDRESS, such as "
        "192.168.1.5:9876, or in a file that `rerun FILE.rrd` opens; without a value, in a viewer that is started on "
        "this machine. Give it after the inputs",
    )


def check_rerun(arguments: argparse.Namespace, split: bool) -> None:
    """Check --rerun before anything takes time.

    Args:
        arguments: the parsed command line, with the argument of `add_rerun`.
        split: whether several workers, or several runs, share the work.

    Raises:
        ModuleNotFoundError: without rerun-sdk.
        ValueError: for a value that is none, a file that exists, and work that is shared.
    """
    if arguments.rerun is None:
        return
    target = read_target(arguments.rerun)
    if split:
        raise ValueError("--rerun shows one run in one process: leave --runner out, and give one recording at a time")
    if find_spec("rerun") is None:
        raise ModuleNotFoundError("No module named 'rerun'", name="rerun")
    target.check()
    if target.file and target.file.exists() and not arguments.overwrite:
        raise ValueError(f"--rerun {target.file} exists: choose another name or --overwrite")


@contextlib.contextmanager
def viewing(arguments: argparse.Namespace) -> Iterator[Viewer | None]:
    """Open what --rerun names, and say at the end how many frames went there; give None without --rerun.

    Args:
        arguments: the parsed command line, checked by `check_rerun`.

    Raises:
        ConnectionError: where no viewer is found, or the file cannot be written.
    """
    if arguments.rerun is None:
        yield None
        return
    from synseg_model.viewer.viewer import Viewer

    viewer = Viewer(read_target(arguments.rerun))
    viewer.connect()
    try:
        yield viewer
    finally:
        complete = viewer.close()
    print(f"{viewer.shown} frame{'s' * (viewer.shown != 1)} in Rerun → {viewer.target}")
    if viewer.missed or not complete:
        logger.warning(
            "Rerun did not take all frames: %s", viewer.problem or "the viewer hangs, and lacks the last ones"
        )
