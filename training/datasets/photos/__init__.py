"""Data sets of photographs with masks, captions or names: one reader per file, one type of sample for all."""

from training.datasets.photos.photo import (
    KINDS,
    UNLABELLED,
    MissingPhotosError,
    Photo,
    PhotoError,
    PhotoSet,
    PhotoSubset,
    held_out,
    open_photos,
    training_and_held_out,
)

__all__ = [
    "KINDS",
    "UNLABELLED",
    "MissingPhotosError",
    "Photo",
    "PhotoError",
    "PhotoSet",
    "PhotoSubset",
    "held_out",
    "open_photos",
    "training_and_held_out",
]
