
import numpy as np
import pytest

from tests.training.objective.maps import sigmoid
from training.objective.spread import spread_loss


def test_spread_loss_counts_only_what_present_names_cover_beyond_the_largest_share(maps):
    logits, present = maps[0], maps[3]
    covered = [np.mean([sigmoid(x) for x in logits[b, k].tolist()]) for b, k in present.nonzero().tolist()]
    expected = np.mean([max(0, share - 0.45) for share in covered])
    assert expected > 0
    assert spread_loss(logits, present, 0.45).item() == pytest.approx(expected)
