import random
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
import torch

from synseg_model.config import ImageConfig
from tests.training.numbered import Numbered
from training.datasets.augmentation import BatchConfig
from training.datasets.batches import BatchSource, add_absent
from training.datasets.pairs import Damages, Pair, Pairs
from training.loop.trainer import Share

CPU = torch.device("cpu")


def source(pairs=None, **values):
    config = BatchConfig(**{"image_size": 0, "flip": False, **values})
    mean = ImageConfig(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    return BatchSource(pairs or Numbered(), config, mean, lambda labels: torch.tensor([[len(x) / 10] for x in labels]))


def numbers(parts):
    return [int(x) for part in parts for x in part.images[:, 0, 0, 0]]


def steps(batches, count, start=0, parts=1, batch=4):
    stream = batches(Share(0, 1, start, batch, parts, CPU))
    return [next(stream) for _ in range(count)]


def test_an_epoch_shows_every_image_once_and_the_next_another_order():
    shown = [numbers(parts) for parts in steps(source(), 12)]
    first, second = (list(chain.from_iterable(half)) for half in (shown[:6], shown[6:]))
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second


@pytest.fixture(scope="module", params=[0, 2])
def unbroken(request):
    """Settings with 0 or 2 workers, and what a run from the first step on sees with them."""
    values = {"workers": request.param, "image_size": 8, "absent": 2, "flip": True}
    return values, steps(source(**values), 11)


@pytest.mark.parametrize("start", [1, 5, 6, 8])
def test_a_run_that_starts_later_sees_what_an_unbroken_one_sees(start, unbroken):
    values, whole = unbroken
    later = steps(source(**values), 3, start)
    for one, other in zip(whole[start : start + 3], later, strict=True):
        assert torch.equal(one[0].images, other[0].images)
        assert torch.equal(one[0].text, other[0].text)


def test_accumulated_parts_hold_the_same_images_as_one():
    assert [numbers(x) for x in steps(source(), 3)] == [numbers(x) for x in steps(source(), 3, parts=2)]


def test_damage_is_made_up_for_within_the_epoch():
    pairs = Numbered(damaged=6)
    shown = [numbers(parts) for parts in steps(source(pairs), 6)]
    assert all(len(x) == 4 for x in shown)


def test_less_data_than_a_batch_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="24 labelled images"):
        steps(source(), 1, batch=32)


def test_images_of_several_sizes_need_a_common_one():
    class Mixed(Numbered):
        def read(self, damages):
            for i, pair in enumerate(super().read(damages)):
                yield Pair(pair.image[: 8 + i % 2], pair.labels)

    with pytest.raises(ValueError, match="image_size"):
        steps(source(Mixed()), 1)
    assert steps(source(Mixed(), image_size=8), 1)[0][0].images.shape == (4, 3, 8, 8)


def test_long_captions_lose_random_labels_and_padding_is_marked():
    part = steps(source(labels=2, absent=1), 1)[0][0]
    assert part.present.sum(dim=1).tolist() == [2] * 4
    assert (part.valid & ~part.present).sum(dim=1).tolist() == [1] * 4
    assert part.text.shape == (4, 3, 1)


def test_absent_labels_share_no_word_with_the_images_own():
    labels = [["red ball", "grass"], ["blue ball", "sky"], ["tall grass", "car"]]
    drawn = add_absent(labels, 5, random.Random(0))
    assert sorted(drawn[0]) == ["car", "sky"]
    assert sorted(drawn[1]) == ["car", "grass", "tall grass"]


def test_one_label_per_image_is_refused():
    with pytest.raises(ValueError, match="MCCL"):
        BatchConfig(labels=1)


class Captioned(Pairs):
    """Images whose captions name the same four things, two of them first; and one with another thing."""

    def __init__(self):
        super().__init__(seed=0)
        self.size = 4

    def read(self, damages: Damages) -> Iterator[Pair]:
        for number in self.share(range(4)):
            labels = ["ball", "cup"] if number == 3 else ["ball", "tree", "key", "sky"]
            yield Pair(np.full((16, 24, 3), number, np.uint8), labels)


def test_what_the_caption_names_and_the_batch_leaves_out_is_not_absent():
    for (part,) in steps(source(Captioned(), labels=2, absent=5), 20):
        for image, labels, present in zip(part.images, part.labels, part.present, strict=True):
            absent = {label for label, here in zip(labels, present.tolist(), strict=False) if not here}
            assert absent == ({"tree", "key", "sky"} if image[0, 0, 0] == 3 else {"cup"})
