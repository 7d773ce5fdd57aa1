import numpy as np

from training.datasets.mask_batches import COMPETING, base_labels, draw_labels, draw_window, token_targets
from training.scenes.scenes import COLORS, NOVEL_NOUNS, NOVEL_PAIRS


def test_mask_training_knows_no_novel_label():
    labels = base_labels()
    assert not set(labels) & {f"{color} {noun}" for color, noun in NOVEL_PAIRS}
    assert not {word for label in labels for word in label.split()} & set(NOVEL_NOUNS)


def test_drawn_labels_are_distinct_known_and_partly_absent():
    segments = [("grass", None), ("ball", "red"), ("car", "blue")]
    allowed = set(base_labels())
    for seed in range(200):
        drawn = draw_labels(segments, np.array([0.5, 0.5, 0.0]), 8, np.random.default_rng(seed))
        assert len(set(drawn)) == 8
        assert {"grass", "ball", "red ball"} == set(drawn[:3])
        assert not set(drawn[3:]) & {"grass", "ball", "red ball"}
        assert set(drawn) <= allowed | {"red ball"}


def test_what_covers_next_to_nothing_is_neither_present_nor_absent():
    segments = [("grass", None), ("ball", "red")]
    for seed in range(200):
        drawn = draw_labels(segments, np.array([0.999, 0.001]), 8, np.random.default_rng(seed))
        assert not {"ball", "red ball"} & set(drawn)


def test_windows_stay_inside_and_two_thirds_of_them_hold_a_thing():
    index_map = np.zeros((40, 60), int)
    index_map[2:8, 50:58] = 1
    held = []
    for seed in range(200):
        rows, columns = draw_window(index_map, [("grass", None), ("ball", "red")], 16, np.random.default_rng(seed))
        assert index_map[rows, columns].shape == (16, 16)
        held.append(index_map[rows, columns].any())
    assert 0.6 < np.mean(held) < 0.85


def test_tokens_are_named_where_one_segment_has_most_of_their_pixels():
    index_map = np.zeros((8, 24), int)
    index_map[:, 8:16] = 1
    index_map[:4, 16:] = 2
    nouns, colors = token_targets(index_map, [("grass", None), ("ball", "red"), ("car", "blue")], 8)
    assert [COMPETING[noun] for noun in nouns[:2]] == ["grass", "ball"]
    assert nouns[2] == -1, "half a token is a car"
    assert list(colors) == [-1, list(COLORS).index("red"), -1]
