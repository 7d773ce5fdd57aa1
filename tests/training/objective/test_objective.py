import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from synseg_model.losses import MCCLLoss
from synseg_model.synergy import pool_to_tokens, synergy_features
from synseg_model.weights.model_folder import load_model
from training.loop.config import TrainerConfig
from training.objective.anchor import anchor_loss
from training.objective.batch import Batch, Window
from training.objective.cmpa import CMPAConfig
from training.objective.named import named_loss
from training.objective.npr import NPRConfig
from training.objective.objective import CaptionObjective, ObjectiveConfig
from training.objective.presence import presence_loss
from training.objective.statistics import activation_statistics
from training.objective.teacher import teacher_loss


@pytest.fixture(scope="module")
def network():
    return load_model("synseg-tiny")[0].train()


@pytest.fixture
def part():
    generator = torch.Generator().manual_seed(0)
    valid = torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    present = torch.tensor([[1, 1, 0], [1, 1, 0]], dtype=torch.bool)
    images = torch.randn(2, 3, 48, 64, generator=generator)
    return Batch(images, torch.randn(2, 3, 256, generator=generator), valid, present)


def mccl_only(**values):
    return ObjectiveConfig(**values)


def test_paper_mode_is_mccl_of_maps_and_projected_film_features(network, part):
    objective = CaptionObjective(network, mccl_only())
    losses = objective(part, network.decoder)
    with torch.no_grad():
        reduced = network.encode_image(part.images)
        activation = pool_to_tokens(network.decode(reduced, part.text, (6, 8)).sigmoid(), (6, 8))
        film = network.decoder.film(reduced[0].unsqueeze(1), part.text)[:, :, 1:]
        weight, bias = objective.projector.weight[:, :, 0, 0], objective.projector.bias
        vectors = synergy_features(activation, film @ weight.T + bias)
        expected = MCCLLoss()(*vectors, part.text, part.present)
    for name in ("align", "cont", "back", "sep", "total"):
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-3, atol=1e-5)


def test_encoders_get_no_gradient_and_stay_in_eval_mode(network, part):
    objective = CaptionObjective(network, mccl_only(presence=1.0, anchor=1.0, teacher=1.0)).train()
    objective(part, network.decoder)["total"].backward()
    assert all(p.grad is None and not p.requires_grad for p in network.encoder.parameters())
    assert not any(module.training for module in network.encoder.modules())
    trained = [*network.decoder.named_parameters(), *objective.projector.named_parameters()]
    assert [name for name, p in trained if p.grad is None] == []


def test_frozen_features_need_no_projector(network, part):
    objective = CaptionObjective(network, mccl_only(features="frozen"))
    assert objective.projector is None
    assert math.isfinite(objective(part, network.decoder)["total"].item())


def test_new_layers_learn_at_their_own_rate_and_vectors_do_not_decay(network):
    config = TrainerConfig(learning_rate=1e-4, new_learning_rate=1e-3)
    groups = CaptionObjective(network, mccl_only()).parameter_groups(config)
    counted = [(group["peak"], group["weight_decay"]) for group in groups]
    assert counted == [(1e-4, 0.05), (1e-4, 0.0), (1e-3, 0.05), (1e-3, 0.0)]
    assert all((p.ndim >= 2) == (group["weight_decay"] > 0) for group in groups for p in group["params"])
    groups = CaptionObjective(network, mccl_only(), fresh=True).parameter_groups(config)
    assert {group["peak"] for group in groups} == {1e-3}


def test_presence_loss_is_least_where_present_labels_are_active_somewhere_and_absent_ones_nowhere():
    logits = torch.full((1, 2, 100), -8.0)
    present, valid = torch.tensor([[True, False]]), torch.ones(1, 2, dtype=torch.bool)
    missed = presence_loss(logits, present, valid)
    found = logits.clone()
    found[0, 0, :5] = 8
    false_alarm = found.clone()
    false_alarm[0, 1, :5] = 8
    right = presence_loss(found, present, valid)
    assert right < 1e-3 < presence_loss(false_alarm, present, valid)
    assert missed > 3


def test_anchor_pulls_each_map_to_where_clip_sees_its_label():
    text = torch.eye(2).unsqueeze(0)
    dense = torch.cat([torch.eye(2)[:1].repeat(4, 1), torch.eye(2)[1:].repeat(4, 1)]).unsqueeze(0)
    right = torch.tensor([[[9.0] * 4 + [-9.0] * 4, [-9.0] * 4 + [9.0] * 4]])
    present = torch.ones(1, 2, dtype=torch.bool)
    assert anchor_loss(right, dense, text, present, 0.05) < 1e-3
    assert anchor_loss(right.flip(1), dense, text, present, 0.05) > 5


def test_teacher_gives_each_pixel_to_the_best_label_of_the_caption_alone():
    teacher = torch.zeros(1, 3, 1, 3)
    teacher[0, :, 0] = torch.tensor([[2.0, 1.0, -5.0], [1.0, 2.0, -5.0], [9.0, 9.0, 9.0]])  # the third label is absent
    present, valid = torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool)
    logits = torch.full((1, 3, 1, 3), -9.0)
    logits[0, 0, 0, 0] = logits[0, 1, 0, 1] = 9
    assert teacher_loss(logits, teacher, present, valid, 0.5) < 1e-3
    unsure = logits.clone()
    unsure[0, :2, 0, 2] = 9  # nobody knows what the last pixel is: present labels are free there
    assert teacher_loss(unsure, teacher, present, valid, 0.5) < 1e-3
    wrong = logits.clone()
    wrong[0, 2] = 9
    assert teacher_loss(wrong, teacher, present, valid, 0.5) > 1


def test_teacher_gives_a_label_it_hardly_knows_the_pixels_that_no_other_claims():
    # a known label, active on the first pixel, and an unknown one whose activation is below 0.1 everywhere
    teacher = torch.tensor([[[[4.0, -4.0, -4.0]], [[-3.0, -2.5, -6.0]]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    logits = torch.tensor([[[[9.0, -9.0, 0.0]], [[-9.0, 9.0, 0.0]]]])  # the last pixel is nobody's
    assert teacher_loss(logits, teacher, both, both, 0.5) < 1e-3


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


NOTHING = dict.fromkeys(("align", "cont", "back", "sep"), 0.0)
PARTS = {"npr": 0.1, "cmpa": 0.5}
NAMES = [["dog", "grass", "car"], ["cat", "sea"]]


@pytest.mark.parametrize("features", ["conditioned", "frozen"])
def test_parts_of_other_papers_add_their_terms_and_change_no_other_bit(network, part, features):
    part = replace(part, labels=NAMES)
    losses = {}
    for name, weights in {"without": {}, "with": PARTS}.items():
        torch.manual_seed(1)
        objective = CaptionObjective(network, mccl_only(features=features, presence=1.0, **weights))
        losses[name] = objective(part, network.decoder)
    without, with_parts = losses["without"], losses["with"]
    assert set(with_parts) - set(without) == set(PARTS)
    assert all(without[name].equal(with_parts[name]) for name in without if name != "total")
    added = sum(weight * with_parts[name] for name, weight in PARTS.items())
    torch.testing.assert_close(with_parts["total"], without["total"] + added)
    assert all(with_parts[name] > 0 for name in PARTS)


def test_parts_that_are_off_leave_no_trace(network):
    torch.manual_seed(1)
    objective = CaptionObjective(network, mccl_only())
    drawn = torch.rand(3)
    torch.manual_seed(1)
    width = network.encoder.text_width
    reference = nn.Conv2d(network.config.decoder.width, width, 1)
    assert drawn.equal(torch.rand(3)), "nothing but the projector is drawn"
    assert objective.projector.weight.equal(reference.weight)
    assert not [name for name in objective.state_dict() if name.startswith(("npr", "cmpa"))]


@pytest.mark.parametrize("name", ["npr", "cmpa"])
def test_a_part_alone_trains_the_decoder_through_frozen_features(network, part, name):
    objective = CaptionObjective(network, mccl_only(**NOTHING, features="frozen", **{name: 1.0})).train()
    network.zero_grad()
    objective(replace(part, labels=NAMES), network.decoder)["total"].backward()
    missing = [key for key, p in network.decoder.named_parameters() if p.grad is None]
    assert objective.projector is None and missing == []
    assert all(p.grad is None for p in network.encoder.parameters())


def test_the_scale_of_npr_learns_as_a_new_vector_and_memories_are_in_the_state(network):
    config = TrainerConfig(learning_rate=1e-4, new_learning_rate=1e-3)
    objective = CaptionObjective(network, mccl_only(features="frozen", **PARTS))
    groups = objective.parameter_groups(config)
    (group,) = (g for g in groups if any(p is objective.npr.log_scale for p in g["params"]))
    assert group["peak"] == 1e-3 and group["weight_decay"] == 0
    assert {"npr.initial", "cmpa.bank.image", "cmpa.bank.keys"} <= set(objective.state_dict())


def test_settings_of_parts_survive_being_written_as_dictionaries():
    config = mccl_only(npr=0.1, npr_settings=NPRConfig(iterations=3), cmpa_settings=CMPAConfig(bank=7))
    assert ObjectiveConfig(**asdict(config)) == config


def test_statistics_ignore_absent_labels():
    activation = torch.zeros(1, 3, 4)
    activation[0, 0, :2] = 1.0
    activation[0, 2] = 0.7
    stats = activation_statistics(activation, torch.tensor([[True, True, False]]))
    assert stats["activation/mean"] == pytest.approx(0.25)
    assert stats["activation/labels"] == pytest.approx(0.25)
    assert stats["activation/pixels"] == pytest.approx(activation[0, 0].std().item() / 2)


@pytest.mark.parametrize("values", [{"features": "other"}, {"align": -1.0}, NOTHING])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match="objective"):
        ObjectiveConfig(**values)


def test_a_module_without_labels_in_common_still_has_a_gradient(network, part):
    lonely = Batch(part.images, part.text, part.valid, torch.zeros_like(part.present))
    objective = CaptionObjective(network, mccl_only())
    total = objective(lonely, nn.Identity())["total"]
    assert total.item() == 0


def test_masks_of_captions_train_the_maps_of_windows(network, part):
    masks = torch.zeros(2, 3, 48, 64, dtype=torch.bool)
    masks[:, 0, 8:24, 8:24] = True
    known = torch.ones(2, 48, 64, dtype=torch.bool)
    with_masks = replace(part, masks=masks, known=known, window=Window((168, 224), (0.5, 0.0)))
    config = mccl_only(align=0, cont=0, back=0, sep=0, masks=1.0)
    objective = CaptionObjective(network, config)
    optimizer = torch.optim.SGD(network.decoder.parameters(), 1e-3)
    before = {name: value.clone() for name, value in network.decoder.state_dict().items()}
    losses = []
    for _ in range(3):
        total = objective(with_masks, network.decoder)["total"]
        losses.append(total.item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    network.decoder.load_state_dict(before)
    assert losses[2] < losses[0]
    elsewhere = replace(with_masks, window=Window((168, 224), (0.0, 0.0)))
    assert objective(elsewhere, network.decoder)["total"].item() != losses[0]
