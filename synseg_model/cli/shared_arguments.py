"""Arguments that several commands have: labels, thresholds and the model that segments."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from synseg_model.config import DEFAULT_MODEL, MAX_LABELS

if TYPE_CHECKING:
    from synseg_model.segmenter import Segmenter

__all__ = ["add_labels", "add_model", "engine_options", "load_segmenter", "read_labels", "read_thresholds"]

logger = logging.getLogger(__name__)


def add_labels(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add --labels and --labels-file, one of which must be given unless `required` is False."""
    labels = parser.add_mutually_exclusive_group(required=required)
    labels.add_argument("--labels", metavar="TEXTS", help='labels with commas between: "red ball, grass"')
    labels.add_argument("--labels-file", metavar="FILE", help="labels, one per line, UTF-8")


def read_labels(arguments: argparse.Namespace) -> list[str]:
    """Take the labels from --labels or --labels-file as they stand; the Segmenter checks them.

    Args:
        arguments: the parsed command line.

    Raises:
        ValueError: for no labels at all, and for a file that cannot be read.
    """
    if isinstance(arguments.labels, list):  # read before, on the machine of the command
        return arguments.labels
    labels = arguments.labels.split(",") if arguments.labels is not None else _read_lines(arguments.labels_file)
    if not any(label.strip() for label in labels):
        raise ValueError("no labels: expected at least one")  # here already: loading a model takes seconds
    return labels


def _read_lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"cannot read the labels file {path}: {reason}") from None
    return [line for line in text.splitlines() if line.strip()]


def read_thresholds(text: str | None) -> list[float] | None:
    """Read the value of --thresholds.

    Args:
        text: one number for all labels, "0.5", or one per label, "0.5,0.4"; None stays None.

    Raises:
        ValueError: for text that is no number.
    """
    if text is None:
        return None
    values = []
    for part in text.split(","):
        try:
            values.append(float(part))
        except ValueError:
            raise ValueError(f"threshold {part.strip()!r}: expected a number from 0 to 1") from None
    return values


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the model, its engine, and how it decides."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="a shipped model, a model folder, an exported folder, or a CLIPSeg id (default: %(default)s)",
    )
    parser.add_argument(
        "--engine", default="auto", help="auto, torch, onnxruntime, openvino or tensorrt (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16", "int8"),
        help="number format of the engines torch and openvino (default: fp16 on a GPU, fp32 on a CPU; bf16 is faster "
        "on CPUs that have it; int8 is for openvino and a model that int8 was added to)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        default=None,
        help="compile the network in the background, which makes images faster about half a minute later; only with "
        "the engine torch on a GPU; needs a C compiler",
    )
    parser.add_argument(
        "--keep-labels",
        type=int,
        metavar="N",
        help="decode in full only the N labels that a coarse pass finds most active in an image; a few times as fast "
        "with many labels; not with tensorrt (default: all labels)",
    )
    parser.add_argument(
        "--thresholds",
        metavar="NUMBERS",
        help="activation from which a pixel belongs to a label, 0 to 1: one number for all, or one per "
        "label with commas between (default: the model's own)",
    )
    parser.add_argument(
        "--max-labels",
        type=int,
        default=MAX_LABELS,
        metavar="N",
        help="most labels accepted (default: %(default)s)",
    )


def engine_options(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the options of the engine that the command line gives."""
    options = {
        "precision": arguments.precision,
        "keep_labels": arguments.keep_labels,
        "compile": arguments.compile,
    }
    return {name: value for name, value in options.items() if value is not None}


def load_segmenter(arguments: argparse.Namespace, refine: str = "none") -> Segmenter:
    """Load the model that the command line names, and warn where it is not for photographs.

    Args:
        arguments: the parsed command line, with the arguments of `add_model`.
        refine: how masks follow the image, as `Segmenter.load` takes it.

    Raises:
        ModelError: for a model that is missing or damaged.
        ValueError: for an unknown engine, device or option.
    """
    from synseg_model.segmenter import Segmenter
    from synseg_model.weights.domain import domain_warning

    options = engine_options(arguments)
    segmenter = Segmenter.load(
        arguments.model, arguments.engine, arguments.device, arguments.max_labels, refine=refine, **options
    )
    warning = domain_warning(segmenter.engine.config)
    if warning:
        logger.warning("%s", warning)
    return segmenter
