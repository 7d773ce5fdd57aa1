"""`synseg info`: what a model folder says about itself, and how it met labels in training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from synseg_model.config import ModelError
from synseg_model.weights.exported_folder import NAMES_FILE
from synseg_model.weights.find import find_folder
from synseg_model.weights.inspect import aligned, describe
from synseg_model.weights.pedigree import Pedigree


def run(arguments: argparse.Namespace) -> int:
    """Print a model's description, or how it met the labels that are given."""
    folder = find_folder(arguments.model)
    if arguments.labels is None:
        print("\n".join(describe(folder)))
    else:
        print("\n".join(describe_labels(folder, arguments.labels.split(","))))
    return 0


def describe_labels(folder: Path, labels: Sequence[str]) -> list[str]:
    """Say in a line for each label how the model met it in training; the model is loaded only for labels it never met.

    Raise ModelError where the folder is damaged or has no names, ValueError for labels that no vocabulary has.
    """
    pedigree = Pedigree.read(folder)
    if not pedigree:
        raise ModelError(f"{folder} does not say which names it was taught: it has no {NAMES_FILE}")
    labels = [" ".join(label.split()) for label in labels if label.strip()]
    if not labels:
        raise ValueError("no labels: expected at least one, with commas between")
    if all(map(pedigree.of, labels)):
        return aligned([(label, str(pedigree.of(label))) for label in labels])
    from synseg_model.segmenter import Segmenter

    segmenter = Segmenter.load(folder, device="cpu")  # on a GPU engines might be built first
    vocabulary = segmenter.prepare_vocabulary(labels)
    return aligned(list(zip(vocabulary.labels, segmenter.pedigree_of(vocabulary), strict=True)))
