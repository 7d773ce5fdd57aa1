import numpy as np
import pytest

from training.evaluation.metrics import ConfusionMatrix


def test_iou_equals_sets_counted_by_hand_with_ignored_pixels():
    truth = np.array([[0, 0, 1, 255], [1, 1, 2, 255]])
    prediction = np.array([[0, 1, 1, 0], [1, 0, 2, 2]])
    matrix = ConfusionMatrix(4)
    matrix.update(prediction, truth)
    np.testing.assert_allclose(matrix.iou(), [1 / 3, 2 / 4, 1.0, np.nan])
    assert matrix.mean_iou() == pytest.approx(100 * (1 / 3 + 1 / 2 + 1) / 3)
    assert matrix.mean_iou([2]) == 100


def test_counts_are_summed_over_images_before_dividing():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[0]]), np.array([[0]]))
    matrix.update(np.array([[0, 0, 0]]), np.array([[1, 1, 1]]))
    np.testing.assert_allclose(matrix.iou(), [1 / 4, 0])


def test_prediction_of_no_class_is_a_miss_and_no_false_alarm():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[-1, 7, 0, 1]]), np.array([[0, 0, 0, 1]]))
    np.testing.assert_allclose(matrix.iou(), [1 / 3, 1])


def test_truth_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="class 5"):
        ConfusionMatrix(3).update(np.array([[0]]), np.array([[5]]))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        ConfusionMatrix(3).update(np.zeros((1, 2)), np.zeros((2, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_mean_iou_equals_torchmetrics_on_random_maps_with_ignored_pixels(seed):
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    rng = np.random.default_rng(seed)
    own = ConfusionMatrix(7)
    reference = classification.MulticlassJaccardIndex(7, average="none", ignore_index=255)
    accuracy = classification.MulticlassAccuracy(7, average="micro", ignore_index=255)
    for _ in range(4):
        truth = rng.choice([0, 1, 2, 3, 4, 6, 255], (23, 31))  # class 5 is only ever predicted
        prediction = np.where(rng.random(truth.shape) < 0.4, truth, rng.integers(0, 7, truth.shape))
        prediction[prediction == 255] = 5
        own.update(prediction, truth)
        for metric in (reference, accuracy):
            metric.update(torch.from_numpy(prediction), torch.from_numpy(truth))
    np.testing.assert_allclose(own.iou(), reference.compute().numpy(), rtol=1e-6)
    assert own.mean_iou() == pytest.approx(100 * float(reference.compute().mean()), rel=1e-6)
    assert own.pixel_accuracy() == pytest.approx(100 * float(accuracy.compute()), rel=1e-6)
