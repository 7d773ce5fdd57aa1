from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage", reason="refinement needs scikit-image")

from synseg_model import Segmenter
from synseg_model.refinement import (
    RefineConfig,
    average_inside,
    color_clusters,
    correct,
    make_refiner,
    masked_affinity,
    segment_means,
    superpixels,
    target_pixels,
)

COCO_MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco-mini"
RED, GREEN, BLUE = (200, 30, 30), (30, 160, 40), (40, 60, 200)


@pytest.fixture
def disk():
    """A red disk on green with some noise, and where it is."""
    rng = np.random.default_rng(0)
    inside = np.zeros((96, 128), np.uint8)
    cv2.circle(inside, (60, 50), 30, 1, -1)
    image = np.where(inside[..., None] > 0, RED, GREEN) + rng.normal(0, 6, (96, 128, 3))
    return np.uint8(image.clip(0, 255)), inside > 0


@pytest.fixture
def config():
    return RefineConfig(superpixels=150, clusters=4)


def iou(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


def test_superpixels_are_numbered_without_gaps_and_follow_the_edge(disk, config):
    image, truth = disk
    segments = superpixels(image, config)
    assert segments.shape == truth.shape
    assert np.unique(segments).tolist() == list(range(segments.max() + 1))
    assert 75 <= segments.max() <= 300
    majority = segment_means(truth[None], segments)[0] >= 0.5
    assert iou(majority[segments], truth) > 0.95


def test_segment_means_are_the_means_of_masks():
    rng = np.random.default_rng(1)
    values, segments = rng.random((3, 5, 7)), rng.permutation(np.arange(35) % 4).reshape(5, 7)
    expected = [[plane[segments == s].mean() for s in range(4)] for plane in values]
    np.testing.assert_allclose(segment_means(values, segments), expected)


def test_averaging_keeps_segment_means_and_what_is_constant_inside_them(disk, config):
    image, truth = disk
    segments = superpixels(image, config)
    maps = np.stack([truth, np.random.default_rng(2).random(truth.shape)]).astype(np.float32)
    averaged = average_inside(maps, segments)
    assert averaged.dtype == np.float32 and averaged.shape == maps.shape
    np.testing.assert_allclose(segment_means(averaged, segments), segment_means(maps, segments), rtol=1e-5)
    np.testing.assert_allclose(average_inside(averaged, segments), averaged, rtol=1e-5)


def test_averaging_pulls_a_blurred_map_to_the_edges_of_the_picture(disk, config):
    image, truth = disk
    dilated = cv2.dilate(truth.astype(np.float32), np.ones((9, 9), np.uint8))
    noisy = 0.6 * dilated + 0.4 * cv2.erode(truth.astype(np.float32), np.ones((9, 9), np.uint8))
    before = iou(noisy >= 0.5, truth)
    after = iou(average_inside(noisy[None], superpixels(image, config))[0] >= 0.5, truth)
    assert before < 0.8 and after > 0.9


def test_clusters_are_colors_and_equal_pictures_have_equal_ones(disk, config):
    image, truth = disk
    segments = superpixels(image, config)
    clusters = color_clusters(image, segments, 2)
    assert iou(clusters == clusters[50, 60], truth) > 0.95
    assert np.array_equal(clusters, color_clusters(image, segments, 2))
    assert color_clusters(np.full_like(image, 90), segments, 5).max() == 0, "one color makes one cluster"


def test_a_cluster_is_a_target_by_its_share_of_the_sure_pixels():
    clusters = np.array([[0] * 10, [1] * 10, [2] * 10])
    activation = np.zeros((3, 10), np.float32)
    activation[0] = 0.9
    activation[1, :1] = 0.9  # one of eleven
    activation[2] = 0.7  # not sure
    rows = [target_pixels(activation, clusters, RefineConfig(share=share)).all(axis=1) for share in (0.05, 0.2)]
    assert [row.tolist() for row in rows] == [[True, True, False], [True, False, False]]
    assert not target_pixels(activation * 0.5, clusters, RefineConfig()).any(), "nothing sure, no target"


def test_rows_sum_to_one_after_masking_and_masked_columns_are_zero():
    affinity = np.random.default_rng(3).random((6, 6))
    weight = np.array([1, 0, 0.5, 1, 0, 0])
    masked = masked_affinity(affinity, weight)
    np.testing.assert_allclose(masked.sum(axis=1), 1)
    assert (masked[:, weight == 0] == 0).all()
    # what is kept keeps its proportions
    np.testing.assert_allclose(masked[:, 0] / masked[:, 3], affinity[:, 0] / affinity[:, 3])
    np.testing.assert_allclose(masked[:, 2] / masked[:, 3], 0.5 * affinity[:, 2] / affinity[:, 3])


def test_nothing_masked_changes_no_affinity_and_all_masked_leaves_zeros():
    affinity = np.random.default_rng(4).random((5, 5))
    affinity /= affinity.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(masked_affinity(affinity, np.ones(5)), affinity)
    assert (masked_affinity(affinity, np.zeros(5)) == 0).all()


GRID = (12, 16)  # of the disk's picture at 8 pixels


def test_tokens_that_attend_to_themselves_alone_lose_only_what_is_no_target(disk, config):
    image, truth = disk
    maps = (0.9 * truth + 0.3)[None].astype(np.float32)
    maps[maps > 1] = 1
    corrected = correct(maps, image, np.eye(192), GRID, config)
    inner = cv2.erode(truth.astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
    outer = cv2.dilate(truth.astype(np.uint8), np.ones((33, 33), np.uint8)) == 0
    np.testing.assert_allclose(corrected[0][inner], maps[0][inner], atol=1e-5)
    np.testing.assert_allclose(corrected[0][outer], 0.5 * maps[0][outer], atol=1e-5)  # strength 0.5


def test_correction_on_tokens_is_the_formula(disk):
    image, _ = disk
    rng = np.random.default_rng(5)
    affinity = rng.random((192, 192))
    activation = rng.random((96, 128)).astype(np.float32)
    config = RefineConfig(superpixels=150, clusters=4, share=0.3, strength=1.0)
    clusters = color_clusters(image, superpixels(image, config), 4)
    target = target_pixels(activation, clusters, config)
    assert 0 < target.mean() < 0.95
    blocks = [plane.reshape(12, 8, 16, 8).mean(axis=(1, 3)).ravel() for plane in (target, activation)]
    rows = affinity * blocks[0]
    refined = blocks[0] * (rows / rows.sum(axis=1, keepdims=True) @ blocks[1])
    change = np.float32(refined * blocks[1].max() / refined.max() - blocks[1]).reshape(GRID)
    change = cv2.resize(change, (128, 96), interpolation=cv2.INTER_LINEAR)
    expected = np.clip(activation + change, 0, 1)
    np.testing.assert_allclose(correct(activation[None], image, affinity, GRID, config)[0], expected, atol=1e-5)


@pytest.mark.parametrize("activation", [0.0, 0.5, 1.0], ids=["absent", "unsure", "stuff that fills the picture"])
def test_maps_without_targets_or_without_background_stay_as_they_are(disk, config, activation):
    image, _ = disk
    maps = np.full((1, *image.shape[:2]), activation, np.float32)
    assert np.array_equal(correct(maps, image, np.full((192, 192), 1 / 192), GRID, config), maps)


def test_labels_are_corrected_each_for_itself_and_inputs_are_left_alone(disk, config):
    image, truth = disk
    maps = np.stack([truth, ~truth, np.zeros_like(truth)]).astype(np.float32)
    before, affinity = maps.copy(), np.random.default_rng(6).random((192, 192))
    together = correct(maps, image, affinity, GRID, config)
    assert np.array_equal(maps, before)
    for index in range(3):
        assert np.array_equal(together[index], correct(maps[index : index + 1], image, affinity, GRID, config)[0])
    assert together.min() >= 0 and together.max() <= 1


def test_sizes_that_do_not_fit_are_refused(disk, config):
    image, truth = disk
    with pytest.raises(ValueError, match=r"maps \(1, 96, 128\).*grid \(12, 15\)"):
        correct(truth[None].astype(np.float32), image, np.eye(192), (12, 15), config)


@pytest.mark.parametrize("values", [{"superpixels": 0}, {"compactness": 0.0}, {"share": 1.5}, {"strength": -0.1}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RefineConfig(**values)


def test_segmenter_averages_the_engines_maps_inside_superpixels(null_engine, tmp_path, disk):
    image, _ = disk
    plain, refined = (Segmenter(null_engine, cache_dir=tmp_path, refine=kind) for kind in ("none", "superpixels"))
    for segmenter in (plain, refined):
        segmenter.set_vocabulary(["red ball", "grass"])
    maps = plain.segment(image).maps
    small = cv2.resize(image, maps.shape[:0:-1], interpolation=cv2.INTER_AREA)
    expected = average_inside(maps, superpixels(small, RefineConfig()))
    assert np.array_equal(refined.segment(image).maps, expected)


def test_engines_without_attention_and_unknown_kinds_are_refused(null_engine):
    with pytest.raises(ValueError, match="'sgc' needs CLIP's attention, which the engine null cannot give: use torch"):
        make_refiner("sgc", null_engine)
    with pytest.raises(ValueError, match="refine 'crf': expected one of none, superpixels, sgc"):
        make_refiner("crf", null_engine)
    assert make_refiner("none", null_engine) is None


def noisy_activations(truth: np.ndarray, labels: list[int], unsure: float) -> np.ndarray:
    """Blur masks whose eroded inside is sure and whose surroundings up to the dilated outside are `unsure`."""
    around = np.ones((13, 13), np.uint8)  # 6 pixels on each side
    maps = []
    for label in labels:
        mask = np.uint8(truth == label)
        inside, outside = (np.float32(change(mask, around)) for change in (cv2.erode, cv2.dilate))
        maps.append(cv2.GaussianBlur(inside + unsure * (outside - inside), (0, 0), 2))
    return np.stack(maps)


@pytest.mark.slow
@pytest.mark.skipif(not COCO_MINI.is_dir(), reason="the photographs are not here")
@pytest.mark.parametrize(("unsure", "margin"), [(0.6, 2.0), (0.4, 4.0)], ids=["too large", "too small"])
def test_superpixels_bring_wrong_edges_back_to_objects_in_photographs(unsure, margin):
    """Raise mIoU against the exact masks of 20 photographs: measured 66.6 to 70.0 % and 44.6 to 49.8 %.

    Activations are the exact masks with edges that are wrong by 6 of 256 pixels. Edges that are wrong by 3 are better
    than superpixels are: there averaging inside 800 of them cost 7 and 2 points.
    """
    pytest.importorskip("torch")
    from training.evaluation.protocols import protocol
    from training.metrics import ConfusionMatrix

    before, after = ConfusionMatrix(81), ConfusionMatrix(81)
    for sample in protocol("coco-mini").tree.samples(COCO_MINI, "all")[0][:20]:
        image, truth = sample.read()
        scale = 256 / min(truth.shape)
        size = tuple(round(side * scale) for side in truth.shape[::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        truth = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST)
        labels = [int(label) for label in np.unique(truth) if label not in (0, 255)]
        if not labels:
            continue
        maps = noisy_activations(truth, labels, unsure)
        for matrix, shown in ((before, maps), (after, average_inside(maps, superpixels(image, RefineConfig())))):
            matrix.update(np.where(shown.max(axis=0) >= 0.5, np.array(labels)[shown.argmax(axis=0)], 0), truth)
    assert after.mean_iou() > before.mean_iou() + margin
