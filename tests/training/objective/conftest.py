import numpy as np
import pytest
import torch

from tests.training.objective.maps import B, K, P


@pytest.fixture
def maps():
    """Logits, masks, known pixels, present and valid names; the last name of the second image is only filled up."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(B, K, P)))
    target = torch.from_numpy(rng.random((B, K, P)) < 0.3)
    known = torch.from_numpy(rng.random((B, P)) < 0.8)
    present = torch.tensor([[True, True, False, False], [True, False, True, False]])
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    target &= present.unsqueeze(2)
    return logits, target, known, present, valid
