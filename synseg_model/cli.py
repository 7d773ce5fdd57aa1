"""The command line `synseg`, also `python -m synseg_model`; each command lives in a module of its own."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from synseg_model import __version__

INTERRUPTED = 130  # what shells expect after Ctrl-C

_SEGMENT_HELP = """\
Segment pictures for any labels, and write what was found to files.

INPUT is an image, several images, a folder of images, a video, or a camera such as /dev/video0,
which runs until Ctrl-C. The output folder gets:

  masks/IMAGE/001_LABEL.png  a mask per label that is present, 0 or 255; masks may overlap
  label_map/IMAGE.png        i where the i-th label is the most active one, 0 for background;
                             16 bits instead of 8 with more than 254 labels
  overlay/IMAGE.png          the picture with coloured regions, contours and names
  overlay.mp4                the same for a video
  summary.json               model, labels, thresholds; for each image its files, time, and the
                             labels present with area (pixels), score (mean activation inside
                             the mask) and roi (x, y, width, height)

A video gets label_map and overlay.mp4 unless --write says otherwise.

To continue an interrupted run, repeat it: images that have their results are left as they are, a
video begins again. A folder with results of other labels or another model is refused unless
--overwrite is given.
"""
_SEGMENT_EXAMPLES = """\
examples:
  synseg segment street.jpg --labels "road, car, tree" --output out
  synseg segment photos/ --labels-file labels.txt --thresholds 0.4 --output out
  synseg segment drive.mp4 --labels "road, car" --thresholds "0.6, 0.3" --output out --write overlay video

exit status: 0 done; 1 some pictures could not be read; 2 nothing could be done, for the reason
given; 130 interrupted
"""
_EXAMPLES = """\
examples:
  synseg segment street.jpg --labels "road, car, tree" --output out
  synseg info synseg-tiny

`synseg COMMAND --help` explains a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 1 for inputs that failed, 2 for errors, 130 for Ctrl-C."""
    parsed = make_parser().parse_args(arguments)
    # Our own lines say what cannot be read; the libraries behind OpenCV would add theirs in their own words.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    handler = _BesideProgressBar()
    logger = logging.getLogger("synseg_model")
    logger.addHandler(handler)
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return _complain("interrupted; finished results are kept", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the interpreter's last flush)
        return 0
    except ModuleNotFoundError as error:
        return _complain(f"{error.name} is not installed; the torch engine needs: pip install 'synseg[torch]'")
    except Exception as error:
        if os.environ.get("SYNSEG_DEBUG"):
            raise
        expected = isinstance(error, (ValueError, OSError))
        kind = "" if expected else f"unexpected {type(error).__name__} (SYNSEG_DEBUG=1 shows where): "
        return _complain(kind + (str(error) or type(error).__name__))
    finally:
        logger.removeHandler(handler)


def make_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    parser = argparse.ArgumentParser(
        prog="synseg",
        description="Say what you care about, get masks for it: open-vocabulary segmentation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"synseg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_segment(commands)
    _add_info(commands)
    return parser


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "segment",
        help="segment images, folders and videos into files",
        description=_SEGMENT_HELP,
        epilog=_SEGMENT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="INPUT", nargs="+", help="image(s), a folder, a video, or /dev/video0")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument("--labels", metavar="TEXTS", help='labels with commas between: "red ball, grass"')
    labels.add_argument("--labels-file", metavar="FILE", help="labels, one per line, UTF-8")
    parser.add_argument("--output", "-o", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument(
        "--model",
        default="synseg-tiny",
        metavar="NAME",
        help="a shipped model, a model folder, or a CLIPSeg id (default: %(default)s)",
    )
    parser.add_argument("--engine", default="auto", help="auto or torch (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--thresholds",
        metavar="NUMBERS",
        help="activation from which a pixel belongs to a label, 0 to 1: one number for all, or one per "
        "label with commas between (default: the model's own)",
    )
    parser.add_argument(
        "--max-labels",
        type=int,
        default=1203,
        metavar="N",
        help="most labels accepted (default: %(default)s)",
    )
    parser.add_argument(
        "--write",
        nargs="+",
        choices=("masks", "label_map", "overlay", "video"),
        metavar="KIND",
        help="write only these: masks, label_map, overlay, video (default: masks label_map overlay; "
        "for a video: label_map video)",
    )
    parser.add_argument("--overwrite", action="store_true", help="segment everything anew, whatever DIR holds")
    parser.set_defaults(run=_command("segment_files"))


def _add_info(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "info",
        help="describe a model",
        description="Print what a model folder holds: encoder, decoder, size, prompts, training, results.",
        epilog="example:\n  synseg info synseg-tiny",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a shipped model's name or a model folder")
    parser.set_defaults(run=_command("model_info"))


def _command(module: str) -> Callable[[argparse.Namespace], int]:
    """Import a command's module only when it is run: `synseg --help` needs none of them."""
    return lambda arguments: import_module(f"synseg_model.{module}").run(arguments)


def _complain(message: str, status: int = 2) -> int:
    print(f"synseg: {' '.join(message.split())}", file=sys.stderr)
    return status


class _BesideProgressBar(logging.Handler):
    """Write log lines to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(f"synseg: {record.getMessage()}", file=sys.stderr)
