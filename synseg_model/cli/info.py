"""`synseg info`: what a model folder says about itself, and how the model met labels in its training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from synseg_model.config import ModelError

NAME = "info"
HELP = "describe a model"
DESCRIPTION = (
    "Print what a model folder holds: encoder, decoder, size, prompts, training, results, and how many names the model "
    "was taught. With --labels, print how the model met each of them in its training."
)
EXAMPLES = 'examples:\n  synseg info synseg-tiny\n  synseg info MODEL --labels "mug, stapler"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, the description and the examples to the command's parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("model", metavar="MODEL", help="a shipped model's name, a model folder or an exported one")
    parser.add_argument(
        "--labels",
        metavar="TEXTS",
        help="labels with commas between: print for each whether masks taught it, captions had it, or images were "
        "named after it; for a label never met, print the nearest known name and the cosine of the two texts",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the description of a model, or how the model met the given labels; returns 0."""
    from synseg_model.weights.description import describe
    from synseg_model.weights.find import find_folder

    folder = find_folder(arguments.model)
    if arguments.labels is None:
        print("\n".join(describe(folder)))
    else:
        print("\n".join(describe_labels(folder, arguments.labels.split(","))))
    return 0


def describe_labels(folder: Path, labels: Sequence[str]) -> list[str]:
    """Say for each label how the model met it in its training; load the model only for labels that it never met.

    Args:
        folder: a model folder or an exported folder.
        labels: texts, which need not be tidy.

    Returns:
        One line per label.

    Raises:
        ModelError: for a folder that is damaged or has no names.
        ValueError: for labels that no vocabulary accepts.
    """
    from synseg_model.weights.description import aligned
    from synseg_model.weights.exported_folder import NAMES_FILE
    from synseg_model.weights.pedigree import Pedigree

    pedigree = Pedigree.read(folder)
    if not pedigree:
        raise ModelError(f"{folder} does not say which names it was taught: it has no {NAMES_FILE}")
    labels = [" ".join(label.split()) for label in labels if label.strip()]
    if not labels:
        raise ValueError("no labels: expected at least one, with commas between")
    if all(map(pedigree.of, labels)):
        return aligned([(label, str(pedigree.of(label))) for label in labels])
    from synseg_model.segmenter import Segmenter

    segmenter = Segmenter.load(folder, device="cpu")  # on a GPU, building engines might come first
    vocabulary = segmenter.prepare_vocabulary(labels)
    return aligned(list(zip(vocabulary.labels, segmenter.pedigree_of(vocabulary), strict=True)))
