"""The objective of photographs as a whole; each of its terms has tests of its own."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.training import photo_models
from training.datasets.photos import UNLABELLED
from training.loop.config import TrainerConfig
from training.objective.batch import PhotoBatch
from training.objective.photos import PhotoObjective, PhotoTerms, photo_terms
from training.objective.pixel import pixel_loss


def batch_of(masked, index_maps=None, size=32):
    """Make a batch with three names in each sample, the last of the second sample filled up."""
    generator = torch.Generator().manual_seed(0)
    count = len(masked)
    if index_maps is None:
        index_maps = torch.randint(0, 2, (count, size, size), generator=generator).byte()
    covers = torch.zeros(count, 3, 256, dtype=torch.bool)
    covers[:, 0, 0] = covers[:, 1, 1] = True
    valid = torch.ones(count, 3, dtype=torch.bool)
    valid[1:2, 2] = False
    return PhotoBatch(
        images=torch.randn(count, 3, size, size, generator=generator),
        index_maps=index_maps,
        texts=F.normalize(torch.randn(count, 3, photo_models.TEXT_WIDTH, generator=generator), dim=-1),
        covers=covers,
        present=torch.tensor([[True, True, False]] * count),
        valid=valid,
        masked=torch.tensor(masked),
    )


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 8, 8, generator=generator), torch.randn(2, 3, generator=generator)


def test_samples_with_masks_and_without_have_terms_of_their_own(logits):
    terms = PhotoTerms()
    of_masks = photo_terms(*logits, batch_of([True, True]), terms)
    of_names = photo_terms(*logits, batch_of([False, False]), terms)
    assert {name for name, value in of_masks.items() if value} == {"pixels", "dice", "competition", "presence"}
    assert {name for name, value in of_names.items() if value} == {"image", "spread"}
    mixed = photo_terms(*logits, batch_of([True, False]), terms)
    assert all(mixed.values())


def test_masks_are_met_at_half_the_inputs_resolution(logits):
    batch = batch_of([True, True])
    found = photo_terms(*logits, batch, PhotoTerms())
    fine = F.interpolate(logits[0], size=(16, 16), mode="bilinear", align_corners=False)
    index = batch.index_maps[:, ::2, ::2].flatten(1)
    target = torch.stack([index == 0, index == 1, torch.zeros_like(index, dtype=torch.bool)], dim=1)
    known = torch.ones(2, 256, dtype=torch.bool)
    torch.testing.assert_close(found["pixels"], pixel_loss(fine.flatten(2), target, known, batch.valid))


def test_unlabelled_pixels_teach_nothing():
    batch = batch_of([True, True])
    index = batch.index_maps.clone()
    index[:, :, 16:] = UNLABELLED
    batch = dataclasses.replace(batch, index_maps=index)
    # One logit for every pixel of the loss, so that none is interpolated across the edge.
    maps = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2), requires_grad=True)
    found = photo_terms(maps, None, batch, PhotoTerms())
    sum(found.values()).backward()
    assert maps.grad[..., :8].abs().sum() > 0
    assert maps.grad[..., 8:].abs().sum() == 0


@pytest.mark.parametrize("masked", [True, False])
def test_places_without_a_name_teach_nothing_and_no_gradient_is_lost(logits, masked):
    maps, presence = (x.clone().requires_grad_() for x in logits)
    found = photo_terms(maps, presence, batch_of([masked] * 2), PhotoTerms())
    sum(found.values()).backward()
    assert maps.grad.isfinite().all() and presence.grad.isfinite().all()
    assert maps.grad[1, 2].abs().sum() == presence.grad[1, 2] == 0
    assert maps.grad[0, 2].abs().sum() > 0, "an absent name learns, too"


def test_every_pixel_unlabelled_gives_zero_and_no_nan(logits):
    batch = batch_of([True, True], torch.full((2, 32, 32), UNLABELLED, dtype=torch.uint8))
    found = photo_terms(logits[0], None, batch, PhotoTerms())
    assert all(value == 0 for value in found.values())


@pytest.mark.parametrize(
    ("values", "reason"), [({"dice": -1.0}, "dice is -1"), ({"top_share": 1.5}, "top_share is 1.5: .* at most 1")]
)
def test_weights_that_cannot_be_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        PhotoTerms(**values)


def objective_of(terms=None, **settings):
    network = photo_models.network()
    return network, PhotoObjective(network, terms or PhotoTerms(), backbone_rate=0.2, **settings)


def test_total_is_the_weighted_sum_and_all_that_trains_gets_a_gradient():
    terms = PhotoTerms(mccl=0.1, teacher=0.5)
    network, objective = objective_of(terms)
    losses = objective(batch_of([True, False, False]), objective.averaged)
    parts = {name: value for name, value in losses.items() if name != "total" and "/" not in name}
    assert set(parts) == {"pixels", "dice", "competition", "presence", "image", "spread", "mccl", "teacher"}
    expected = sum(getattr(terms, name) * value for name, value in parts.items())
    torch.testing.assert_close(losses["total"], expected)
    losses["total"].backward()
    without = [name for name, p in objective.trained.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(p.grad is None for p in network.encoder.text.parameters())


def test_statistics_that_the_trainer_watches_are_those_of_present_names_with_masks():
    network, objective = objective_of()
    batch = batch_of([True, False])
    losses = objective(batch, objective.averaged)
    logits = network.maps(batch.images[:1], batch.texts[:1])
    expected = logits[0, :2].sigmoid().mean()
    torch.testing.assert_close(losses["activation/mean"], expected, atol=1e-5, rtol=0)


def test_batch_statistics_stay_while_the_backbone_trains():
    network, objective = objective_of()
    before = {name: value.clone() for name, value in network.encoder.image.named_buffers()}
    objective.train()
    objective(batch_of([True, True]), objective.averaged)
    assert before and all(torch.equal(value, before[n]) for n, value in network.encoder.image.named_buffers())


def test_the_backbone_learns_at_a_share_of_the_rate_or_not_at_all():
    config = TrainerConfig(new_learning_rate=1e-2)
    network, objective = objective_of()
    rates = {id(p): group["peak"] for group in objective.parameter_groups(config) for p in group["params"]}
    assert {rates.pop(id(p)) for p in network.encoder.image.parameters()} == {0.2 * 1e-2}
    assert {rates.pop(id(p)) for p in network.decoder.parameters()} == {1e-2}
    assert not rates
    network, objective = objective_of(frozen_backbone=True)
    trained = {id(p) for group in objective.parameter_groups(config) for p in group["params"]}
    assert trained == {id(p) for p in network.decoder.parameters()}


def test_mccl_is_of_images_without_masks_that_have_two_names():
    _, objective = objective_of(PhotoTerms(mccl=1.0))
    batch = batch_of([True, False, False])
    mccl = objective(batch, objective.averaged)["mccl"]
    present = batch.present.clone()
    present[1] = torch.tensor([True, False, False])
    fewer = objective(dataclasses.replace(batch, present=present), objective.averaged)["mccl"]
    alone = objective(
        dataclasses.replace(batch, masked=torch.tensor([True, True, False])), objective.averaged
    )["mccl"]  # fmt: skip
    assert mccl > 0
    torch.testing.assert_close(fewer, alone)


def test_the_teacher_is_the_averaged_network_and_learns_nothing():
    _, objective = objective_of(PhotoTerms(teacher=1.0))
    _, other = objective_of()
    batch = batch_of([False, False])
    own = objective(batch, objective.averaged)["teacher"]
    for part, weight in (("decoder", "head16.weight"), ("image", "conv_stem.weight")):
        changed = copy.deepcopy(other.averaged)
        with torch.no_grad():
            changed[part].get_parameter(weight).mul_(-5)
        found = objective(batch, changed)["teacher"]
        assert found != own, part
        found.backward()
        assert all(p.grad is None for p in changed.parameters())
