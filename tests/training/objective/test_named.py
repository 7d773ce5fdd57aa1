import math

import pytest
import torch

from training.objective.named import named_loss


def test_named_pixels_lose_what_the_definition_says_and_only_beside_absent_labels():
    logits = torch.tensor([1.0, 0.0, 2.0, 9.0]).view(1, 4, 1, 1).repeat(2, 1, 1, 1)
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
    present = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
    expected = -math.log((math.e + 1) / (math.e + 1 + math.e**2))
    assert named_loss(logits, present, valid).item() == pytest.approx(expected)
    assert named_loss(logits, valid, valid).item() == 0
    assert named_loss(logits, torch.zeros_like(valid), valid).item() == 0


def test_named_pixels_move_by_the_posterior_among_the_captions_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[1, 1, 1, 1, 0]], dtype=torch.bool)
    present = torch.tensor([[1, 0, 1, 0, 0]], dtype=torch.bool)
    named_loss(logits, present, valid).backward()
    shares = [logits.detach().masked_fill(~m[:, :, None, None], -torch.inf).softmax(dim=1) for m in (valid, present)]
    torch.testing.assert_close(logits.grad, (shares[0] - shares[1]) / 6)
