import pytest
import torch

from synseg_model.synergy import pool_to_tokens, synergy_features


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 12, generator=generator), torch.randn(2, 3, 12, 5, generator=generator)


def test_foreground_and_background_add_up_to_the_mean_feature(inputs):
    activation, features = inputs
    foreground, background = synergy_features(activation, features)
    torch.testing.assert_close(foreground + background, features.mean(dim=2))


def test_values_equal_explicit_sums(inputs):
    activation, features = inputs
    foreground, background = synergy_features(activation, features)
    for b in range(2):
        for n in range(3):
            expected = sum(activation[b, n, p] * features[b, n, p] for p in range(12)) / 12
            inverse = sum((1 - activation[b, n, p]) * features[b, n, p] for p in range(12)) / 12
            torch.testing.assert_close(foreground[b, n], expected)
            torch.testing.assert_close(background[b, n], inverse)


def test_features_shared_by_all_labels_equal_repeated_ones(inputs):
    activation, features = inputs
    shared = features[:, :1]
    repeated = synergy_features(activation, shared.expand(-1, 3, -1, -1))
    for one, other in zip(synergy_features(activation, shared), repeated, strict=True):
        torch.testing.assert_close(one, other)


def test_autocast_does_not_round_the_sums(inputs):
    exact = synergy_features(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(synergy_features(*inputs), exact, strict=True):
            assert torch.equal(one, other)


def test_half_precision_inputs_are_summed_in_float32(inputs):
    foreground, _ = synergy_features(*(x.bfloat16() for x in inputs))
    assert foreground.dtype == torch.float32


@pytest.mark.parametrize(("a", "f"), [((2, 3), (2, 3, 4, 5)), ((2, 3, 4), (2, 2, 4, 5)), ((2, 3, 4), (2, 3, 6, 5))])
def test_shapes_that_do_not_fit_are_named(a, f):
    with pytest.raises(ValueError, match=r"\(2, 3"):
        synergy_features(torch.zeros(a), torch.zeros(f))


def test_pooling_to_tokens_averages_each_patch():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(pool_to_tokens(maps, (2, 2)), torch.tensor([[[2.5, 4.5, 10.5, 12.5]]]))
