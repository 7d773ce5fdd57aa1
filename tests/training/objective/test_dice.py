
import numpy as np
import pytest

from tests.training.objective.maps import P, sigmoid
from training.objective.dice import dice_loss


def test_dice_loss_compares_each_present_name_that_has_known_pixels_with_its_mask(maps):
    logits, target, known, present, _ = maps
    target[0, 1] &= ~known[0]  # all of its mask lies where nothing is known
    losses = []
    for b, k in present.nonzero().tolist():
        mask = [float(target[b, k, p]) for p in range(P) if known[b, p]]
        activation = [sigmoid(logits[b, k, p]) for p in range(P) if known[b, p]]
        if sum(mask):
            overlap = sum(a * m for a, m in zip(activation, mask, strict=True))
            losses.append(1 - (2 * overlap + 1) / (sum(activation) + sum(mask) + 1))
    assert len(losses) == 3
    assert dice_loss(logits, target, known, present).item() == pytest.approx(np.mean(losses))
