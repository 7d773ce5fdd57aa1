import math

import pytest
import torch
from torch.nn import functional as F

from synseg_model.losses import MCCLLoss, clamp_similarity

LOW, HIGH = 0.005, 0.995


def reference(foreground, background, text, bounds=(LOW, HIGH), distinct=False):
    """Write equations 3 to 7 out with loops, for one image without padding."""

    def sim(a, b):
        return min(max(float(F.cosine_similarity(a, b, dim=0)), bounds[0]), bounds[1])

    n = len(text)
    pairs = [(j, k) for j in range(n) for k in range(n) if not distinct or j != k]
    count = max(1, len(pairs))
    return {
        "align": -sum(math.log(sim(foreground[i], text[i])) for i in range(n)) / n,
        "cont": -sum(math.log(1 - sim(foreground[i], background[i])) for i in range(n)) / n,
        "back": -sum(math.log(sim(background[j], background[k])) for j, k in pairs) / count,
        "sep": -sum(math.log(1 - sim(foreground[j], foreground[k])) for j, k in pairs) / count,
    }


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, 4, 6, generator=generator, dtype=torch.float64) for _ in range(3)]


ALL_VALID = torch.ones(2, 4, dtype=torch.bool)


@pytest.mark.parametrize("pairs", ["all", "distinct"])
def test_terms_equal_the_equations_written_out_with_loops(vectors, pairs):
    ours = MCCLLoss(pairs=pairs)(*vectors, ALL_VALID)
    per_image = [reference(*(v[b] for v in vectors), distinct=pairs == "distinct") for b in range(2)]
    for name in ("align", "cont", "back", "sep"):
        assert ours[name].item() == pytest.approx(sum(image[name] for image in per_image) / 2, rel=1e-6)


def test_total_is_the_weighted_sum(vectors):
    ours = MCCLLoss(weights=(1.0, 0.5, 2.0, 0.0))(*vectors, ALL_VALID)
    expected = ours["align"] + 0.5 * ours["cont"] + 2 * ours["back"]
    torch.testing.assert_close(ours["total"], expected)


@pytest.mark.parametrize("count", [1, 3])
def test_diagonal_adds_a_constant_to_separation_and_background(count):
    # Orthogonal vectors: off the diagonal every cosine is clipped to the lower bound.
    eye = torch.eye(6, dtype=torch.float64)[None, :count]
    ours = MCCLLoss()(eye, eye, eye, torch.ones(1, count, dtype=torch.bool))
    off = (count - 1) / count
    assert ours["sep"].item() == pytest.approx(5.298317 / count - off * math.log(1 - LOW), abs=1e-5)
    assert ours["back"].item() == pytest.approx(-math.log(HIGH) / count - off * math.log(LOW), abs=1e-5)
    assert ours["align"].item() == pytest.approx(-math.log(HIGH))
    assert ours["cont"].item() == pytest.approx(5.298317, abs=1e-5)


@pytest.mark.parametrize("pairs", ["all", "distinct"])
def test_with_one_label_the_pair_terms_train_nothing(pairs):
    foreground, background, text = (torch.randn(1, 1, 6, dtype=torch.float64, requires_grad=True) for _ in range(3))
    ours = MCCLLoss(pairs=pairs)(foreground, background, text, torch.ones(1, 1, dtype=torch.bool))
    (ours["sep"] + ours["back"]).backward()
    assert foreground.grad.abs().max() < 1e-12 and background.grad.abs().max() < 1e-12


def test_padding_changes_nothing_and_gets_no_gradient(vectors):
    padded = [torch.cat([v, torch.full((2, 2, 6), 7.0, dtype=torch.float64)], 1).requires_grad_() for v in vectors]
    valid = torch.cat([ALL_VALID, torch.zeros(2, 2, dtype=torch.bool)], dim=1)
    ours = MCCLLoss()(*padded, valid)
    for name, value in MCCLLoss()(*vectors, ALL_VALID).items():
        torch.testing.assert_close(ours[name], value)
    ours["total"].backward()
    assert all((p.grad[:, 4:] == 0).all() for p in padded)


def test_zero_vectors_in_padding_give_no_nan(vectors):
    padded = [torch.cat([v, torch.zeros(2, 1, 6, dtype=torch.float64)], 1).requires_grad_() for v in vectors]
    valid = torch.cat([ALL_VALID, torch.zeros(2, 1, dtype=torch.bool)], dim=1)
    MCCLLoss(clamp="straight-through")(*padded, valid)["total"].backward()
    assert all(p.grad.isfinite().all() for p in padded)


def test_image_without_labels_counts_for_nothing(vectors):
    valid = ALL_VALID.clone()
    valid[1] = False
    ours = MCCLLoss()(*vectors, valid)
    for name, value in reference(*(v[0] for v in vectors)).items():
        assert ours[name].item() == pytest.approx(value, rel=1e-6)


def test_order_of_labels_does_not_matter(vectors):
    order = torch.tensor([2, 0, 3, 1])
    shuffled = MCCLLoss()(*(v[:, order] for v in vectors), ALL_VALID)
    torch.testing.assert_close(shuffled["total"], MCCLLoss()(*vectors, ALL_VALID)["total"])


def test_hard_clamp_stops_gradients_outside_and_straight_through_does_not():
    similarity = torch.tensor([-0.5, 0.001, 0.5, 0.999], requires_grad=True)
    for mode, expected in (("hard", [0.0, 0.0, 1.0, 0.0]), ("straight-through", [1.0] * 4)):
        clamped = clamp_similarity(similarity, mode=mode)
        torch.testing.assert_close(clamped, torch.tensor([LOW, LOW, 0.5, HIGH]))
        (gradient,) = torch.autograd.grad(clamped.sum(), similarity)
        assert gradient.tolist() == expected


@pytest.mark.parametrize("pairs", ["all", "distinct"])
def test_gradients_equal_finite_differences(pairs):
    generator = torch.Generator().manual_seed(5)
    # positive vectors keep every cosine off the diagonal well inside the bounds, where the loss is smooth
    inputs = [torch.rand(2, 3, 5, generator=generator, dtype=torch.float64) for _ in range(3)]
    inputs = [x.add(0.2).requires_grad_() for x in inputs]
    valid = torch.tensor([[True, True, True], [True, True, False]])
    loss = MCCLLoss(pairs=pairs)
    assert torch.autograd.gradcheck(lambda *x: loss(*x, valid)["total"], inputs)


def test_float32_inside_autocast(vectors):
    inputs = [v.float() for v in vectors]
    with torch.autocast("cpu", torch.bfloat16):
        inside = MCCLLoss()(*inputs, ALL_VALID)["total"]
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, MCCLLoss()(*inputs, ALL_VALID)["total"])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"weights": (1, 1, 1)}, "four"),
        ({"bounds": (0.0, 0.9)}, "bounds"),
        ({"pairs": "some"}, "'some'"),
        ({"clamp": "soft"}, "'soft'"),
    ],
)
def test_wrong_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MCCLLoss(**kwargs)


def test_shapes_that_do_not_fit_are_named(vectors):
    with pytest.raises(ValueError, match=r"text \(2, 3, 6\)"):
        MCCLLoss()(vectors[0], vectors[1], vectors[2][:, :3], ALL_VALID)
