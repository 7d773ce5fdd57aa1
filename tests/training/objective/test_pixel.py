import math

import numpy as np
import pytest

from tests.training.objective.maps import B, K, P, sigmoid
from training.objective.pixel import pixel_loss


def test_pixel_loss_is_the_mean_cross_entropy_of_known_pixels_and_valid_names(maps):
    logits, target, known, _, valid = maps
    losses = [
        -math.log(sigmoid(logits[b, k, p]) if target[b, k, p] else 1 - sigmoid(logits[b, k, p]))
        for b in range(B) for k in range(K) for p in range(P) if known[b, p] and valid[b, k]
    ]  # fmt: skip
    assert pixel_loss(logits, target, known, valid).item() == pytest.approx(np.mean(losses))
