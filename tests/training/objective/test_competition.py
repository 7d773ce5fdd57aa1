import math

import numpy as np
import pytest
import torch

from tests.training.objective.maps import K
from training.objective.competition import competition_loss, flat_competition_loss


def test_competition_loss_lets_a_pixel_choose_among_valid_names_and_none(maps):
    logits, target, known, _, valid = maps
    losses = []
    for b, p in known.nonzero().tolist():
        weights = {k: math.exp(logits[b, k, p]) for k in range(K) if valid[b, k]}
        right = [weight for k, weight in weights.items() if target[b, k, p]] or [1.0]
        losses.append(-math.log(sum(right) / (1 + sum(weights.values()))))
    assert flat_competition_loss(logits, target, known, valid).item() == pytest.approx(np.mean(losses))


def test_labels_compete_for_pixels_and_none_of_them_is_a_label_of_logit_zero():
    masks = torch.tensor([[True, False, False], [True, True, False]]).T[None].transpose(1, 2)  # (1, 2, 3)
    logits = torch.tensor([[[2.0, 1.0, -1.0], [0.5, 3.0, 1.0]]])
    p = torch.cat([torch.zeros(1, 1, 3), logits], dim=1).softmax(dim=1)[0]
    both, second, none = p[1, 0] + p[2, 0], p[2, 1], p[0, 2]
    torch.testing.assert_close(competition_loss(logits, masks), -torch.stack([both, second, none]).log().mean())
