"""The command line `synseg`, also `python -m synseg_model`: its parser, its log lines and its exit statuses."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from synseg_model import __version__
from synseg_model.cli.commands import find_commands
from synseg_model.cli.progress import LogAboveProgressBar
from synseg_model.install_hints import missing_module
from synseg_model.memory import keep_freed_memory

INTERRUPTED = 130  # what shells expect after Ctrl-C

_TELLING = ("engines", "export")  # packages that log which engine was chosen and why, and how far an export is

_EXAMPLES = """\
examples:
  synseg segment street.jpg --labels "road, car, tree" --output out
  synseg live --labels "person, cup"
  synseg bag drive/ --labels "road, car, tree" --output drive_masks
  synseg export synseg-tiny --output exported
  synseg build-engine exported
  synseg info synseg-tiny

`synseg COMMAND --help` explains a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows `synseg`; None for the arguments of this process.

    Returns:
        The exit status: 0 when all is done, 1 when some inputs could not be read, 2 for errors, 130 after Ctrl-C.
    """
    parsed = make_parser().parse_args(arguments)
    keep_freed_memory()
    # Our own messages say what cannot be read: silence those of the libraries behind OpenCV.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with _log_lines({"synseg_model", parsed.package}):
        return _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    """Run the command, and turn every error into one line and an exit status."""
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return _complain("interrupted; finished results are kept", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the interpreter's last flush)
        return 0
    except ModuleNotFoundError as error:
        return _complain(missing_module(error))
    except Exception as error:
        if os.environ.get("SYNSEG_DEBUG"):
            raise
        expected = isinstance(error, (ValueError, OSError))
        kind = "" if expected else f"unexpected {type(error).__name__} (SYNSEG_DEBUG=1 shows where): "
        return _complain(kind + (str(error) or type(error).__name__))


@contextlib.contextmanager
def _log_lines(packages: set[str]) -> Iterator[None]:
    """Write the warnings of some packages to stderr, and the progress of the packages in _TELLING."""
    handler = LogAboveProgressBar()
    loggers = [logging.getLogger(name) for name in packages]
    telling = [logging.getLogger(f"synseg_model.{name}") for name in _TELLING]
    levels = [each.level for each in telling]
    for logger in loggers:
        logger.addHandler(handler)
    for each in telling:
        each.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        for each, level in zip(telling, levels, strict=True):
            each.setLevel(level)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser, with all commands that are found."""
    parser = argparse.ArgumentParser(
        prog="synseg",
        description="Say what you care about, get masks for it: open-vocabulary segmentation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"synseg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in find_commands(complain=_complain):
        subparser = commands.add_parser(
            command.NAME, help=command.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, package=command.run.__module__.partition(".")[0])
    return parser


def _complain(message: str, status: int = 2) -> int:
    print(f"synseg: {' '.join(message.split())}", file=sys.stderr)
    return status
