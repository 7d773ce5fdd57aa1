import torch
from torch.nn import functional as F

from training.objective.competition import competition_loss
from training.objective.masks import mask_loss


def test_mask_loss_is_least_at_the_truth():
    masks = torch.zeros(1, 2, 8, 8, dtype=torch.bool)
    masks[0, 0, 2:5, 2:5] = True
    right = torch.where(masks, 9.0, -9.0)
    assert mask_loss(right, masks) < 0.01
    assert mask_loss(right, masks) < mask_loss(torch.zeros_like(right), masks) < mask_loss(-right, masks)


def test_balanced_mask_loss_weighs_a_thing_as_much_as_its_surroundings():
    masks = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    masks[..., 0, :5] = True  # five percent
    nothing, everything = torch.full(masks.shape, -4.0), torch.full(masks.shape, 4.0)
    assert mask_loss(nothing, masks) < mask_loss(everything, masks) / 3
    dice = 0.3 * (1 - 1 / (100 * torch.sigmoid(torch.tensor(4.0)) + 6) * (10 * torch.sigmoid(torch.tensor(4.0)) + 1))
    cross_entropy = mask_loss(everything, masks, balance=1.0) - dice
    expected = 0.5 * (F.softplus(torch.tensor(4.0)) + F.softplus(torch.tensor(-4.0)))
    torch.testing.assert_close(cross_entropy, expected)


def test_unknown_pixels_and_padded_labels_count_nowhere():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 4, requires_grad=True), torch.rand(2, 3, 4, 4) > 0.5
    masks[:, 2] = False
    known, valid = torch.rand(2, 4, 4) > 0.3, torch.tensor([[True, True, False]] * 2)
    masks &= known[:, None]
    for loss in (mask_loss, competition_loss):
        (gradient,) = torch.autograd.grad(loss(logits, masks, known=known, valid=valid), logits)
        assert not gradient[:, 2].any()
        assert not gradient.movedim(1, -1)[~known].any()
        assert gradient[:, :2].movedim(1, -1)[known].all()
        everything, labels = torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
        torch.testing.assert_close(loss(logits, masks, known=everything, valid=labels), loss(logits, masks))
        few = loss(logits[:, :2], masks[:, :2], known=known)
        torch.testing.assert_close(loss(logits, masks, known=known, valid=valid), few)
