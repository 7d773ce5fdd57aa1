import pytest
import torch

from training.objective.statistics import activation_statistics


def test_statistics_ignore_absent_labels():
    activation = torch.zeros(1, 3, 4)
    activation[0, 0, :2] = 1.0
    activation[0, 2] = 0.7
    stats = activation_statistics(activation, torch.tensor([[True, True, False]]))
    assert stats["activation/mean"] == pytest.approx(0.25)
    assert stats["activation/labels"] == pytest.approx(0.25)
    assert stats["activation/pixels"] == pytest.approx(activation[0, 0].std().item() / 2)
