import pytest
import torch
from torch.nn import functional as F

from synseg_model.network import attention
from synseg_model.network.attention import attend


@pytest.mark.parametrize("memory", [1, 2 * 2 * 3 * 10 * 10, 2**30], ids=["a row", "two rows", "all rows"])
def test_plain_products_in_bfloat16_are_attention(monkeypatch, memory):
    monkeypatch.setattr(attention, "SCORES_MEMORY", memory)
    exact = torch.randn(3, 5, 3, 10, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact.requires_grad_()
    rounded = exact.detach().bfloat16().requires_grad_()
    expected, got = F.scaled_dot_product_attention(*exact), attend(*rounded)
    assert got.dtype == torch.bfloat16 and got.shape == expected.shape
    torch.testing.assert_close(got.double(), expected, atol=0.05, rtol=0.02)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (expected * weights).sum().backward()
    (got.double() * weights).sum().backward()
    difference = (rounded.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert difference < 0.03


def test_autocast_does_not_widen_the_scores():
    query, key, value = torch.randn(3, 1, 2, 6, 8).bfloat16()
    outside = attend(query, key, value)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(query, key, value), outside)


def test_float32_is_left_to_torch():
    tokens = torch.randn(3, 1, 2, 6, 8)
    assert torch.equal(attend(*tokens), F.scaled_dot_product_attention(*tokens))
