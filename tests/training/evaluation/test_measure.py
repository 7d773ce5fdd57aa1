import numpy as np
import pytest
from PIL import Image

from training.evaluation import measure as counting
from training.evaluation.images import chosen_places, paint
from training.evaluation.measure import measure
from training.evaluation.predict import with_background
from training.evaluation.run import spread
from training.evaluation.samples import EvaluationSample
from training.evaluation.sweep import best_threshold, check_disjoint, sweep


class Oracle:
    """Predict what an image's colours say: red is the class, green / 255 the largest score."""

    def __init__(self, stop_at=None):
        self.calls, self.stop_at, self.given = 0, stop_at, []

    def background_score(self, threshold):
        return threshold

    def best(self, image, given=None):
        self.calls += 1
        self.given.append(given)
        return image[..., 1].astype(np.float32) / 255, image[..., 0].copy()

    def classify(self, image, threshold=None, given=None):
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        largest, winner = self.best(image, given)
        return winner if threshold is None else with_background(largest, winner, threshold)


def sample(folder, name, classes, scores, truth):
    """An image of one row, and its truth."""
    image = np.zeros((1, len(classes), 3), np.uint8)
    image[0, :, 0], image[0, :, 1] = classes, np.round(np.multiply(scores, 255))
    folder.mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / f"{name}.png")
    return EvaluationSample(name, folder / f"{name}.png", lambda: np.array([truth], np.uint8))


@pytest.fixture
def samples(tmp_path):
    return [
        sample(tmp_path, "a", [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 255]),
        sample(tmp_path, "b", [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]),
    ]


def test_counts_are_over_the_whole_data_set_and_each_images_own_score_is_over_its_classes(samples):
    measured = measure(Oracle(), samples, 2, None)
    assert measured.complete
    np.testing.assert_allclose(measured.matrix.iou(), [3 / 6, 1 / 4])
    assert measured.singles == [(0, 100.0, 2), (1, 25.0, 1)]


def test_first_predictions_are_kept_while_there_is_room(samples, monkeypatch):
    np.testing.assert_array_equal(measure(Oracle(), samples, 2, None).predictions[1], [[0, 1, 1, 1]])
    monkeypatch.setattr(counting, "KEPT_BYTES", 4)
    assert list(measure(Oracle(), samples, 2, None).predictions) == [0]


def test_interrupt_keeps_what_was_counted(samples):
    measured = measure(Oracle(stop_at=1), samples, 2, None)
    assert not measured.complete
    assert [place for place, _, _ in measured.singles] == [0]
    assert measured.matrix.counts.sum() == 3


def test_all_classes_are_given_unless_only_those_present_are_asked_for(samples):
    for present, given in ((False, [None, None]), (True, [[0, 1], [0]])):
        oracle = Oracle()
        assert measure(oracle, samples, 2, None, present=present).present is present
        assert oracle.given == given


def test_background_is_no_class_that_is_given(samples):
    measured, swept = Oracle(), Oracle()
    measure(measured, samples, 3, 0.5, present=True)
    sweep(swept, samples, 3, (0.5,), present=True)
    assert measured.given == swept.given == [[0], []]


def test_sweep_measures_every_threshold_in_one_pass(tmp_path):
    tuning = [sample(tmp_path, "a", [0, 0, 0, 0], [0.9, 0.6, 0.3, 0.1], [1, 1, 0, 0])]
    oracle = Oracle()
    curve = sweep(oracle, tuning, 2, (0.05, 0.5, 0.95))
    assert oracle.calls == 1
    assert curve == {0.05: pytest.approx(25), 0.5: pytest.approx(100), 0.95: pytest.approx(25)}
    assert best_threshold(curve) == 0.5


def test_sweep_agrees_with_measuring_at_its_threshold(tmp_path):
    rng = np.random.default_rng(0)
    tuning = [
        sample(tmp_path, f"{i}", rng.integers(0, 3, 50), rng.random(50), rng.integers(0, 4, 50)) for i in range(3)
    ]
    for threshold, miou in sweep(Oracle(), tuning, 4).items():
        assert measure(Oracle(), tuning, 4, threshold).matrix.mean_iou() == pytest.approx(miou)


def test_of_equally_good_thresholds_the_lowest_is_taken():
    assert best_threshold({0.6: 10.0, 0.2: 10.0, 0.9: 3.0}) == 0.2


def test_image_that_is_reported_cannot_be_tuned_on(tmp_path, samples):
    other = sample(tmp_path, "c", [0], [1], [0])
    check_disjoint([other], samples)
    with pytest.raises(ValueError, match="1 images would be both tuned on and reported \\(b for instance\\)"):
        check_disjoint([other, samples[1]], samples)
    renamed = EvaluationSample("another name", samples[0].path, samples[0].truth)
    with pytest.raises(ValueError, match="both tuned on and reported"):
        check_disjoint([renamed], samples)


def test_some_samples_are_spread_over_all():
    assert spread(list(range(10)), 3) == [0, 3, 6]
    assert spread(list(range(3)), 5) == spread(list(range(3)), 0) == [0, 1, 2]
    with pytest.raises(ValueError, match="images -1"):
        spread([1], -1)


def test_shown_images_are_the_best_middle_and_worst_each_once():
    singles = [(place, float(score), 1) for place, score in enumerate([50, 10, 90, 30, 70, np.nan])]
    assert chosen_places(singles, 1) == [("best", 2, 90.0), ("middle", 0, 50.0), ("worst", 1, 10.0)]
    assert [place for _, place, _ in chosen_places(singles[:2])] == [0, 1]
    assert chosen_places([(0, float("nan"), 0)]) == []


@pytest.mark.parametrize(("background", "classes"), [(True, [0, 1, 2, 255]), (False, [255, 0, 1, 255])])
def test_painted_truth_leaves_background_and_ignored_pixels_as_they_are(background, classes):
    image = np.full((20, 40, 3), 128, np.uint8)
    painted = paint(image, np.repeat(np.repeat([classes], 20, 0), 10, 1).astype(np.uint8), ("a", "b"), background)
    assert (painted[10, 5] == 128).all() and (painted[10, 38] == 128).all()
    assert (painted[1, 15] != painted[1, 25]).any()
    assert (painted[1, 15] != 128).any() and (painted[1, 25] != 128).any()
