"""Samples of training on photographs: what they show, which names are present and absent, and that they repeat."""

from __future__ import annotations

import dataclasses
from collections import Counter

import cv2
import numpy as np
import pytest
import torch

from tests.training import photo_models
from tests.training.photo_models import COLORS, masked, named, words
from training.datasets.photo_batches import (
    BORDER,
    Mixture,
    MixtureConfig,
    PhotoBatches,
    Words,
    _window,
    change_colors,
    collate,
    move_texts,
)
from training.datasets.photos import UNLABELLED, Photo, PhotoError
from training.datasets.photos.packed import pack
from training.loop.trainer import Share, seed_step

EXHAUSTIVE = {"nyu": ["ball", "grass", "dog", "person"], "voc": ["dog", "cat"]}
PHOTOS = [
    masked("nyu", "1", "ball", "grass"),
    masked("nyu", "2", "sky", "dog", size=(200, 60)),
    masked("voc", "1", "dog", ""),
    named("flickr8k", "1", ("puppy", "lawn"), ("A puppy on a lawn.",)),
    named("caltech101", "22", ("cat",)),
]
PLAIN = {"size": 64, "names": 6, "present": 3, "other_words": 0.0, "workers": 0}
WEIGHTS = {"nyu": 0.4, "voc": 0.2, "flickr8k": 0.2, "caltech101": 0.2}
ROWS = list(photo_models.NAMES)


def mixture(photos=PHOTOS, seed=0, exhaustive=EXHAUSTIVE, words=None, **settings) -> Mixture:
    config = MixtureConfig(**{**PLAIN, "weights": WEIGHTS, **settings})
    return Mixture(photos, exhaustive, words or photo_models.words(), config, seed)


def said(sample, which) -> set[str]:
    return {ROWS[row] for row in sample.names[which]}


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_sample_is_a_function_of_seed_and_number():
    first, again, other = mixture(), mixture(), mixture(seed=1)
    expected = [first[number] for number in range(12)]
    assert all(same(expected[number], again[number]) for number in reversed(range(12)))
    assert not any(same(one, other[number]) for number, one in enumerate(expected))
    assert not any(same(one, expected[0]) for one in expected[1:])


def share_of(start=0, rank=0, world=1, batch=4, parts=2):
    return Share(rank, world, start, batch, parts, torch.device("cpu"))


def batches_of(share, steps=4, workers=0, count=None):
    """Collect batches as the trainer takes them: every step begins with a seed of its own."""
    made = PhotoBatches(mixture(workers=workers), (0.5,) * 3, (0.5,) * 3, noise=0.5, steps=steps)
    stream, found = made(share), []
    for step in range(share.start, steps if count is None else share.start + count):
        seed_step(0, step, share.rank)
        found.append(next(stream))
    return found


def tensors(part):
    return [getattr(part, field.name) for field in dataclasses.fields(part)]


def test_batches_do_not_depend_on_the_number_of_workers():
    for one, two in zip(batches_of(share_of()), batches_of(share_of(), workers=2), strict=True):
        for part, other in zip(one, two, strict=True):
            assert all(a.equal(b) for a, b in zip(tensors(part), tensors(other), strict=True))


def test_a_run_that_goes_on_gets_the_very_batches_of_an_unbroken_one():
    whole = batches_of(share_of())
    for one, two in zip(whole[2:], batches_of(share_of(start=2)), strict=True):
        for part, other in zip(one, two, strict=True):
            assert all(a.equal(b) for a, b in zip(tensors(part), tensors(other), strict=True))


def test_processes_divide_the_batch_of_one():
    whole = torch.cat([part.index_maps for part in batches_of(share_of(), count=1)[0]])
    ranks = [batches_of(share_of(rank=rank, world=2), count=1)[0] for rank in range(2)]
    assert [len(parts) for parts in ranks] == [2, 2]
    assert whole.equal(torch.cat([part.index_maps for parts in ranks for part in parts]))


def test_stream_ends_with_the_last_step():
    made = PhotoBatches(mixture(), (0.5,) * 3, (0.5,) * 3, noise=0.0, steps=3)
    assert len(list(made(share_of(start=1)))) == 2


def test_masks_lie_where_the_image_shows_the_name():
    wrong = total = 0
    for number in range(40):
        sample = mixture(weights={"nyu": 1.0})[number]
        assert sample.image.shape == (64, 64, 3) and sample.index_map.shape == (64, 64)
        for k in np.flatnonzero(sample.present):
            inside = sample.covers[k][sample.index_map]
            distance = np.abs(sample.image[inside].astype(int) - COLORS[ROWS[sample.names[k]]]).max(axis=1)
            total += inside.sum()
            wrong += (distance > 60).sum()
            assert inside.any(), "a present name has pixels"
    assert total > 40_000
    assert wrong < 0.02 * total, "but for the edges, where colours mix"


def test_unlabelled_pixels_are_those_beyond_the_image():
    beyond = 0
    for number in range(40):
        sample = mixture(PHOTOS[1:2], weights={"nyu": 1.0}, zoom=(0.5, 1.0))[number]
        outside = (sample.image == BORDER).all(axis=2)
        assert np.array_equal(outside, sample.index_map == UNLABELLED)
        beyond += outside.mean()
    assert beyond / 40 > 0.2


def test_absent_names_of_images_with_masks_are_those_that_the_set_labels_wherever_they_occur():
    seen = Counter()
    for number in range(200):
        sample = mixture(weights={"nyu": 1.0, "voc": 1.0})[number]
        absent, shown = said(sample, sample.valid & ~sample.present), said(sample, sample.present)
        seen.update(absent)
        regions = {ROWS[sample.names[k]] for k in np.flatnonzero(sample.covers.any(axis=1))}
        assert regions == shown, "an absent name covers nothing"
        assert absent <= set(EXHAUSTIVE["nyu"]) or absent <= set(EXHAUSTIVE["voc"])
        assert not absent & shown
    assert seen["person"] and seen["cat"] and "sky" not in seen


def test_a_name_that_is_in_the_image_under_another_word_is_not_absent():
    photos = [masked("nyu", "1", "sphere", "woman")]
    for number in range(20):
        sample = mixture(photos, weights={"nyu": 1.0}, zoom=(0.9, 1.0), around=0.0)[number]
        assert said(sample, sample.present) == {"sphere", "woman"}
        assert said(sample, sample.valid & ~sample.present) == {"grass", "dog"}


def test_absent_names_of_captions_come_from_captions_and_names_and_are_unlike_those_shown():
    names = ["dog", "puppy", "cat", "lawn"]
    texts = np.array([[1, 0, 0], [0.8, 0.6, 0], [0.3, 0, 0.95], [0, 0.5, 0.87]], np.float32)
    table = Words(names, texts, {}, {})
    photos = [
        named("flickr8k", "1", ("dog",), ("A dog.",)), named("flickr8k", "2", ("puppy",), ("A puppy.",)),
        named("flickr8k", "3", ("lawn", "cat"), ("A cat on a lawn.",)), masked("nyu", "1", "ball", "grass"),
    ]  # fmt: skip
    made = mixture(photos, words=table, weights={"flickr8k": 1.0}, unlike=0.45)
    found = {}
    for number in range(60):
        sample = made[number]
        assert not sample.masked and not sample.covers.any() and (sample.index_map == UNLABELLED).all()
        key = tuple(sorted(names[row] for row in sample.names[sample.present]))
        found.setdefault(key, set()).update(names[row] for row in sample.names[sample.valid & ~sample.present])
    similar = texts @ texts.T
    for key, absent in found.items():
        rows = [names.index(name) for name in key]
        expected = {n for row, n in enumerate(names) if max(similar[row, r] for r in rows) < 0.45}
        assert absent == expected, key
    assert found["dog",] == {"cat", "lawn"}


def test_a_hidden_name_that_no_set_labels_is_refused():
    with pytest.raises(ValueError, match="hidden names dgo: no set labels them"):
        mixture(hidden=("dgo", "dog"))


def test_hidden_names_have_no_mask_and_are_not_absent_of_images_with_masks():
    covered = said_of_captions = 0
    photos = [*PHOTOS, named("flickr8k", "333", ("dog", "lawn"), ("A dog on a lawn.",))]
    made = mixture(photos, hidden=("dog",))
    for number in range(150):
        sample = made[number]
        names = said(sample, sample.valid)
        if not sample.masked:
            said_of_captions += "dog" in names
            continue
        assert "dog" not in names
        yellow = np.abs(sample.image.astype(int) - COLORS["dog"]).max(axis=2) < 30
        covered += yellow.sum()
        assert (sample.index_map[yellow] == UNLABELLED).mean() > 0.98 if yellow.any() else True
    assert covered > 10_000 and said_of_captions


def test_a_damaged_photograph_is_named_counted_and_another_takes_its_place():
    broken = dataclasses.replace(PHOTOS[0], key="broken", image=b"no image")
    made = mixture([PHOTOS[0], broken], weights={"nyu": 1.0})
    samples = [made[number] for number in range(20)]
    problems = [problem for sample in samples for problem in sample.damaged]
    assert len(problems) >= 5
    assert set(problems) == {"nyu broken: the packed image or its index map is damaged"}
    batches = PhotoBatches(made, (0.5,) * 3, (0.5,) * 3, noise=0.0, steps=5)
    assert sum(1 for _ in batches(share_of())) == 5
    assert batches.damages == Counter(problems), "steps of four take the samples 0 to 19"


@pytest.mark.parametrize("content", [b"", b"no image", PHOTOS[0].image[:10]])
def test_photographs_that_are_all_damaged_end_the_run(content):
    broken = dataclasses.replace(PHOTOS[0], image=content)
    with pytest.raises(PhotoError, match="10 photographs in a row cannot be read: nyu 1"):
        mixture([broken], weights={"nyu": 1.0})[0]


def test_sets_are_drawn_by_their_weights():
    made = mixture(weights={"nyu": 0.0, "voc": 3.0, "flickr8k": 1.0, "ade": 5.0})
    drawn = Counter(made[number].masked for number in range(200))
    assert drawn[True] / 200 == pytest.approx(0.75, abs=0.08)
    assert not any(said(made[number], made[number].valid) & {"ball", "grass"} for number in range(50))


def test_no_more_names_are_present_than_asked_for_and_places_without_a_name_are_not_valid():
    regions = tuple((name,) for name in photo_models.NAMES[:8])
    index_map = np.repeat(np.arange(8, dtype=np.uint8), 12)[None].repeat(96, axis=0)
    photo = pack(Photo(np.zeros((96, 96, 3), np.uint8), regions, index_map), "nyu", "1")
    found = [mixture([photo], weights={"nyu": 1.0}, zoom=(0.9, 1.0))[number] for number in range(20)]
    assert max(sample.present.sum() for sample in found) == 3
    for sample in found:
        assert sample.valid.tolist() == sorted(sample.valid, reverse=True)
        assert not sample.covers[~sample.valid].any() and not sample.present[~sample.valid].any()


def test_crops_around_regions_show_small_ones_more_often():
    index_map = np.zeros((96, 96), np.uint8)
    index_map[:6, :6] = 1
    photo = pack(Photo(np.zeros((96, 96, 3), np.uint8), (("grass",), ("ball",)), index_map), "nyu", "1")
    shares = []
    for around in (0.0, 1.0):
        made = mixture([photo], weights={"nyu": 1.0}, around=around, zoom=(2.0, 2.2))
        shares.append(np.mean([(made[number].index_map == 1).any() for number in range(60)]))
    assert shares[1] > shares[0] + 0.2


def draws(table, *arguments, count=300):
    rng = np.random.default_rng(0)
    return Counter(ROWS[table.say(*arguments, rng)] for _ in range(count))


def test_half_of_the_names_are_said_with_another_word():
    found = draws(words(), "ball", True, 0.5, ())
    assert found["sphere"] / 300 == pytest.approx(0.5, abs=0.08) and set(found) == {"ball", "sphere"}
    assert set(draws(words(), "ball", True, 0.0, ())) == {"ball"}
    assert set(draws(words(), "sky", True, 1.0, ())) == {"sky"}, "it has no other word"


def test_another_word_that_is_a_class_of_the_set_is_not_drawn():
    assert set(draws(words(), "carpet", True, 1.0, {"carpet", "rug"})) == {"carpet"}
    assert set(draws(words(), "carpet", True, 1.0, {"carpet"})) == {"rug"}


def test_a_narrower_word_says_that_a_thing_is_there_and_never_that_it_is_not():
    table = words(others={"person": ["cat"]})  # as if it were a word for people
    present = draws(table, "person", True, 1.0, ())
    assert present["woman"] / 300 == pytest.approx(0.25, abs=0.08) and set(present) == {"woman", "cat"}
    assert set(draws(table, "person", False, 1.0, ())) == {"cat"}


def test_words_without_an_embedding_are_left_out():
    table = words(others={"ball": ["globe", "sphere"], "unicorn": ["ball"]}, narrower={"dog": ["poodle"]})
    assert table.others == {"ball": ["sphere"]} and table.narrower == {}
    assert table.family("ball") == {"ball", "sphere"} and table.family("unicorn") == {"unicorn"}


def test_other_words_are_drawn_for_present_and_for_absent_names():
    made = mixture(weights={"nyu": 1.0}, other_words=1.0)
    samples = [made[number] for number in range(60)]
    present = set().union(*(said(sample, sample.present) for sample in samples))
    absent = set().union(*(said(sample, sample.valid & ~sample.present) for sample in samples))
    assert {"sphere", "lawn", "puppy"} <= present
    assert {"sphere", "lawn"} <= absent
    assert not {"puppy", "woman"} & absent


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"present": 6}, "present is 6: expected 1 to 5"),
        ({"size": 65}, "size is 65: expected a multiple of 32"),
        ({"size": 32}, "size is 32"),
        ({"weights": {}}, "weights are {}"),
        ({"weights": {"nyu": -1.0}}, "weights are"),
        ({"weights": {"nyu": 0.0}}, "weights are"),
    ],
)
def test_settings_that_cannot_work_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        MixtureConfig(**{**PLAIN, **values})


def test_weights_of_sets_that_are_not_packed_are_an_error():
    for weights in ({"ade": 1.0}, {"nyu": 0.0, "ade": 1.0}):
        with pytest.raises(ValueError, match=r"'ade': 1\.0.*packed: nyu, voc, flickr8k, caltech101"):
            mixture(weights=weights)


@pytest.fixture
def numbered():
    """An image (40,60,3) whose pixels tell their row and column."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(40)[:, None], np.arange(60)[None]
    return image


def test_a_window_inside_the_image_is_cut_out(numbered):
    window = _window(numbered, 5, 10, 20, 20, 20, BORDER, cv2.INTER_LINEAR)
    assert np.array_equal(window, numbered[5:25, 10:30])


@pytest.mark.parametrize(
    ("top", "left", "rows", "columns"),
    [(-10, -20, 80, 80), (30, 50, 40, 40), (-30, 20, 40, 40), (0, -39, 40, 40)],
)
def test_a_window_beyond_the_image_shows_a_border_there(numbered, top, left, rows, columns):
    window = _window(numbered, top, left, rows, columns, rows, BORDER, cv2.INTER_NEAREST)
    assert window.shape == (rows, rows, 3)
    for row in range(rows):
        for column in range(columns):
            y, x = top + row, left + column
            inside = 0 <= y < 40 and 0 <= x < 60
            expected = [y, x, 0] if inside else [BORDER] * 3
            assert window[row, column].tolist() == expected


@pytest.mark.parametrize(("top", "left"), [(40, 0), (-20, 0), (0, 60), (200, 200)])
def test_a_window_that_misses_the_image_is_border_alone(numbered, top, left):
    assert (_window(numbered, top, left, 20, 20, 64, BORDER, cv2.INTER_LINEAR) == BORDER).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2)])
def test_images_of_any_shape_give_samples(size):
    photo = masked("nyu", "1", "ball", "grass", size=size)
    made = mixture([photo], weights={"nyu": 1.0})
    assert all(made[number].image.shape == (64, 64, 3) for number in range(10))


def test_colors_change_within_the_range_each_image_in_its_way():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 8, 8).expand(6, -1, -1, -1)
    changed = change_colors(images)
    assert changed.min() >= 0 and changed.max() <= 1
    assert not any(changed[i].equal(changed[j]) for i in range(6) for j in range(i))


def test_half_of_the_texts_are_moved_by_no_more_than_asked_for():
    torch.manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(40, 10, 384), dim=-1)
    moved = move_texts(texts, 0.9)
    torch.testing.assert_close(moved.norm(dim=-1), torch.ones(40, 10))
    cosine = (moved * texts).sum(dim=-1)
    assert ((cosine > 1 - 1e-6).float().mean() - 0.5).abs() < 0.08
    assert cosine.min() > 0.7  # a move of 0.9 lengths at a right angle leaves a cosine of 0.74
    assert move_texts(texts, 0.0) is texts


def test_images_reach_the_network_normalised_and_with_the_embeddings_of_their_names():
    batches = PhotoBatches(mixture(), (0.4,) * 3, (0.2,) * 3, noise=0.0, steps=2)
    samples = [mixture()[number] for number in range(4)]
    torch.manual_seed(3)
    part = batches.on_device(collate(samples), torch.from_numpy(words().texts), torch.device("cpu"))
    torch.manual_seed(3)
    images = torch.stack([torch.from_numpy(s.image) for s in samples]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(part.images, (change_colors(images) - 0.4) / 0.2)
    for row, sample in enumerate(samples):
        assert part.texts[row].argmax(dim=1).tolist() == sample.names.tolist()
        assert part.masked[row] == sample.masked and part.valid[row].tolist() == sample.valid.tolist()
