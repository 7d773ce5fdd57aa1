import json
import random
from itertools import islice

import numpy as np
import pytest
import torch

from synseg_model.config import ImageConfig
from synseg_model.weights.model_folder import load_model
from training.datasets import region_pairs
from training.datasets.augmentation import BatchConfig, draw_window, shown_labels
from training.datasets.batches import BatchSource, mask_of
from training.datasets.caption_masks import CaptionMaskConfig, caption_masks, frequent_nouns, name_pixels, regions_of
from training.datasets.masked_scenes import MaskedScenes, Rehearsed
from training.datasets.pairs import UNKNOWN, Damages, Pair, Pairs, Regions
from training.datasets.region_pairs import INDEX_FILE, RegionPairs, write_regions
from training.loop.trainer import Share
from training.networks.text_embedding import TextEmbedder
from training.scenes.pool import PoolConfig
from training.scenes.scenes import NOUNS, STUFF, make_scene


class Listed(Pairs):
    def __init__(self, pairs):
        super().__init__(seed=0)
        self.pairs, self.size = pairs, len(pairs)

    def read(self, damages: Damages):
        return self.share(self.pairs)


@pytest.fixture(scope="module")
def network():
    return load_model("synseg-tiny")[0].eval()


@pytest.fixture(scope="module")
def text(network):
    return TextEmbedder(network)


def flat(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None, None].expand(-1, 2, 2)


@pytest.mark.parametrize(
    ("logits", "winner"),
    [
        ((5.0, 7.0), 0),  # named, and the other is not far enough ahead
        ((5.0, 10.0), 1),  # left out by the caption
        ((-3.0, 7.0), 0),  # lifted to the floor: the caption says that it is somewhere
        ((-9.0, -8.0), UNKNOWN),
    ],
)
def test_a_named_label_has_the_advantage(logits, winner):
    assert (name_pixels(flat(*logits), 1, CaptionMaskConfig(margin=4.0, floor=4.0)) == winner).all()


def test_frequent_nouns_are_those_of_phrases_and_of_nouns_alone():
    image = np.zeros((8, 8, 3), np.uint8)
    pairs = Listed([Pair(image, ["red cup", "sky"]), Pair(image, ["cup", "blue ball"]), Pair(image, ["sky"])])
    assert frequent_nouns(pairs, 2) == ["cup", "sky"]


def test_on_scenes_the_caption_makes_better_masks_of_novel_things(network, text):
    vocabulary, config = [*NOUNS, *STUFF], CaptionMaskConfig()
    found = {"caption": 0, "open": 0}
    total = 0
    for seed in (3, 9, 11, 20):
        scene = make_scene(700_000 + seed, (168, 224), "novel", (1, 3))
        labels = [f"{s.color} {s.noun}" if s.color else s.noun for s in scene.segments]
        things = [i for i, s in enumerate(scene.segments) if s.noun in ("bird", "boat", "cup", "key", "star")]
        for name, named in (("caption", labels), ("open", [])):
            pair = regions_of(Pair(scene.image, named), network, text, vocabulary, config)
            for i in things:
                here = mask_of(scene.segments[i].noun, pair.regions) & (scene.index_map == i)
                found[name] += int(here.sum())
        total += sum(int((scene.index_map == i).sum()) for i in things)
    assert total > 0
    assert found["caption"] > max(0.4 * total, found["open"])


def test_masks_go_through_shards_and_training_reads_them(network, text, tmp_path, monkeypatch):
    monkeypatch.setattr(region_pairs, "SHARD", 3)
    scenes = [make_scene(710_000 + i, (84, 112), "all", (2, 4)) for i in range(8)]
    pairs = Listed([Pair(s.image, [label for label in s.labels if " " in label or label in STUFF]) for s in scenes])
    made = caption_masks(pairs, network, text, CaptionMaskConfig(vocabulary=12), tmp_path)
    assert made.size == 8
    assert made.settings["vocabulary"] == frequent_nouns(pairs, 12)
    pair = next(iter(made))
    assert pair.image.shape == (*pair.regions.index_map.shape, 3) == (168, 224, 3)
    again = caption_masks(pairs, network, text, CaptionMaskConfig(vocabulary=12), tmp_path)
    assert again.folder == made.folder
    assert caption_masks(pairs, network, text, CaptionMaskConfig(vocabulary=5), tmp_path).folder != made.folder
    config = BatchConfig(image_size=0, labels=3, absent=3, window=96)
    part = next(BatchSource(made, config, network.config.image, text)(Share(0, 1, 0, 4, 1, torch.device("cpu"))))[0]
    assert part.images.shape == (4, 3, 96, 96)
    assert part.masks.shape == (*part.text.shape[:2], 96, 96)
    assert part.masks.any(dim=(2, 3)).equal(part.present)
    assert part.window.whole == (168, 224)


def test_a_broken_making_goes_on_with_the_next_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(region_pairs, "SHARD", 2)
    pairs = [Pair(np.full((8, 8, 3), i, np.uint8), ["a", "b"], Regions(np.zeros((8, 8), np.uint8), [f"x{i}"]))
             for i in range(5)]  # fmt: skip
    asked = []

    def broken(start):
        asked.append(start)
        yield from pairs[start:3]
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_regions(tmp_path, broken, 5, {})
    assert not (tmp_path / INDEX_FILE).exists()

    def whole(start):
        asked.append(start)
        return iter(pairs[start:])

    write_regions(tmp_path, whole, 5, {})
    write_regions(tmp_path, whole, 5, {})
    assert asked == [0, 2]
    assert json.loads((tmp_path / INDEX_FILE).read_text())["shards"] == {"00000.tar": 2, "00001.tar": 2, "00002.tar": 1}
    assert sorted(pair.regions.names[0] for pair in RegionPairs(tmp_path)) == [f"x{i}" for i in range(5)]


def test_damaged_samples_are_counted_and_left_out(tmp_path, caplog):
    pairs = [Pair(np.zeros((8, 8, 3), np.uint8), ["a", "b"], Regions(np.zeros((8, 8), np.uint8), ["x"]))] * 3
    pairs[1] = Pair(pairs[0].image, ["a", "b"], Regions(np.zeros((8, 8, 3), np.uint8), ["x"]))
    write_regions(tmp_path, lambda start: iter(pairs[start:]), 3, {})
    assert len(list(RegionPairs(tmp_path))) == 2
    assert "1 x damaged sample" in caplog.text


def test_scenes_with_exact_masks_come_in_between(tmp_path):
    size = (32, 32)
    pool = PoolConfig(6, (size,), 5, "base", captions=1)
    scenes = MaskedScenes(pool, tmp_path)
    drawn = Listed([Pair(np.zeros((*size, 3), np.uint8), ["a", "b"], None)] * 12)
    both = Rehearsed(drawn, scenes)
    assert both.size == 18
    for epoch in (0, 1):
        both.set_epoch(epoch)
        exact = [pair.regions is not None for pair in both]
        assert exact == [False, False, True] * 6
    pair = next(iter(scenes))
    assert set(np.unique(pair.regions.index_map)) <= set(range(len(pair.regions.names)))


def test_labels_of_a_map_are_its_names_and_their_nouns():
    index_map = np.full((10, 10), UNKNOWN, np.uint8)
    index_map[:5, :5], index_map[:5, 5:], index_map[9, 9:] = 0, 1, 2
    regions = Regions(index_map, ["red cup", "blue cup", "key"])
    assert shown_labels(regions) == ["red cup", "blue cup", "key", "cup"]
    assert mask_of("red cup", regions).sum() == mask_of("blue cup", regions).sum() == 25
    assert mask_of("cup", regions).sum() == 50
    assert not mask_of("ball", regions).any()


def test_windows_lie_inside_and_most_hold_part_of_a_region():
    index_map = np.full((40, 60), UNKNOWN, np.uint8)
    index_map[3:8, 50:58] = 0
    rng = random.Random(0)
    windows = [draw_window(index_map, 16, rng) for _ in range(60)]
    shown = [index_map[window] for window in windows]
    assert {part.shape for part in shown} == {(16, 16)}
    assert sum((part == 0).any() for part in shown) > 35
    assert len(set(map(str, islice(windows, 10)))) > 5
    assert draw_window(index_map, 100, rng) == (slice(0, 40), slice(0, 60))


def test_absent_labels_are_other_nouns_mostly_alone_and_small_regions_get_windows():
    near, far = np.zeros((64, 64), np.uint8), np.ones((64, 64), np.uint8)
    near[4:12, 4:12], far[50:60, 50:60] = 1, 0
    image = np.zeros((64, 64, 3), np.uint8)
    pairs = Listed([
        Pair(image, ["a", "b"], Regions(near, ["grass", "red cup"])),
        Pair(image, ["a", "b"], Regions(far, ["blue cup", "sky"])),
        Pair(image, ["a", "b"], Regions(near, ["sand", "green key"])),
    ])  # fmt: skip
    config = BatchConfig(image_size=0, labels=2, absent=6, window=32, flip=False)
    source = BatchSource(pairs, config, ImageConfig(), lambda labels: torch.zeros(len(labels), 4))
    part = next(source(Share(0, 1, 0, 3, 1, torch.device("cpu"))))[0]
    for labels, present, own in zip(part.labels, part.present, ("cup", "cup", "key"), strict=True):
        absent = [label for label, here in zip(labels, present, strict=False) if not here]
        assert absent and not any(label.endswith(own) for label in absent)
        assert sum(" " not in label for label in absent) >= sum(" " in label for label in absent)
    rng = random.Random(1)
    held = [(near[draw_window(near, 32, rng)] == 1).any() for _ in range(100)]
    assert sum(held) > 60


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"masks\.vocabulary 300"):
        CaptionMaskConfig(vocabulary=300)
    with pytest.raises(ValueError, match="window is 96 and image_size 224"):
        BatchConfig(window=96, image_size=224)
