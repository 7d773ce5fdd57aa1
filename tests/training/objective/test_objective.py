import math
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from synseg_model.losses import MCCLLoss
from synseg_model.synergy import pool_to_tokens, synergy_features
from synseg_model.weights.model_folder import load_model
from training.loop.config import TrainerConfig
from training.objective.batch import Batch, Window
from training.objective.cmpa import CMPAConfig
from training.objective.npr import NPRConfig
from training.objective.objective import CaptionObjective, ObjectiveConfig


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


NOTHING = dict.fromkeys(("align", "cont", "back", "sep"), 0.0)
PARTS = {"npr": 0.1, "cmpa": 0.5}
NAMES = [["dog", "grass", "car"], ["cat", "sea"]]


def test_muon_takes_the_matrices_of_the_decoders_blocks(network):
    config = TrainerConfig(optimizer="muon")
    groups = CaptionObjective(network, mccl_only()).parameter_groups(config)
    (muon,) = [{id(p) for p in group["params"]} for group in groups if group.get("muon")]
    assert muon == {id(p) for p in network.decoder.blocks.parameters() if p.ndim == 2}
    every = [id(p) for group in groups for p in group["params"]]
    assert len(every) == len(set(every))


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
