from pathlib import Path

import numpy as np
import pytest

from training.datasets.photos import UNLABELLED, open_photos

SHARED = Path(__file__).parents[5] / "shared" / "data"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the photographs are not here")

SETS = [
    ("nyu", "nyu-depth-v2", 795, 37), ("camvid", "camvid", 367, 11), ("voc", "voc-aug", 1477, 20),
    ("clothing", "clothing-co-parsing", 904, 57), ("coco", "coco-mini", 80, 80), ("flickr8k", "flickr8k", 8091, 0),
    ("folders", "caltech101", 2000, 0), ("folders", "imagenet-sample", 900, 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "folder", "count", "exhaustive"), SETS)
def test_real_photographs_are_read(kind, folder, count, exhaustive):
    photos = open_photos(kind, SHARED / folder)
    # Image names that cannot be asked for are dropped, so of those sets a few images may be missing.
    assert len(photos) == count or (kind == "folders" and count < len(photos) < count + 100)
    assert len(set(photos.keys)) == len(photos)
    assert len(photos.exhaustive) == len(set(photos.exhaustive)) == exhaustive
    for index in range(0, len(photos), len(photos) // 8):
        photo = photos[index]
        assert photo.image.dtype == np.uint8
        assert photo.image.ndim == 3
        if photo.index_map is None:
            assert photo.names or len(photo.captions) == 5
        else:
            assert photo.index_map.shape == photo.image.shape[:2]
            assert set(np.unique(photo.index_map)) - {UNLABELLED} == set(range(len(photo.regions)))
            assert len(set(photo.regions)) == len(photo.regions)


@pytest.mark.parametrize(("kind", "folder"), [row[:2] for row in SETS[:5]])
def test_every_exhaustive_name_but_a_few_rare_ones_is_met(kind, folder):
    photos = open_photos(kind, SHARED / folder)
    step = max(1, len(photos) // 80)
    met = {name for index in range(0, len(photos), step) for names in photos[index].regions for name in names}
    assert len(met & set(photos.exhaustive)) >= 0.6 * len(photos.exhaustive)
