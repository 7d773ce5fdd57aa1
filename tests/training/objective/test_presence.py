import math

import numpy as np
import pytest
import torch

from tests.training.objective.maps import B, K, sigmoid
from training.objective.presence import presence_loss, score_loss, top_score


def test_presence_loss_is_least_where_present_labels_are_active_somewhere_and_absent_ones_nowhere():
    logits = torch.full((1, 2, 100), -8.0)
    present, valid = torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool)
    missed = presence_loss(logits, present, valid)
    found = logits.clone()
    found[0, 0, :5] = 8
    false_alarm = found.clone()
    false_alarm[0, 1, :5] = 8
    right = presence_loss(found, present, valid)
    assert right < 1e-3 < presence_loss(false_alarm, present, valid)
    assert missed > 3


def test_score_loss_weighs_present_names_as_much_as_absent_ones(maps):
    present, valid = maps[3:]
    scores = torch.linspace(-2, 2, B * K, dtype=torch.float64).view(B, K)
    there = [-math.log(sigmoid(s)) for s in scores[present].tolist()]
    away = [-math.log(1 - sigmoid(s)) for s in scores[valid & ~present].tolist()]
    assert score_loss(scores, present, valid).item() == pytest.approx((np.mean(there) + np.mean(away)) / 2)
    assert score_loss(scores, present, present).item() == pytest.approx(np.mean(there))
    nothing = torch.zeros_like(present)
    assert score_loss(scores, nothing, nothing).item() == 0


def test_top_score_is_the_mean_of_the_most_active_part(maps):
    logits = maps[0]
    expected = np.sort(logits.numpy(), axis=2)[..., -3:].mean(axis=2)
    np.testing.assert_allclose(top_score(logits, 0.1), expected)
    np.testing.assert_allclose(top_score(logits, 0.0), logits.amax(dim=2))
