"""Training on captions with a convolutional model: every term, and the program on packed photographs."""

import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from synseg_model.config import ModelConfig
from synseg_model.losses import MCCLLoss
from synseg_model.network.synseg import build_decoder
from synseg_model.segmenter import Segmenter
from synseg_model.synergy import pool_to_tokens, synergy_features
from synseg_model.weights.model_folder import load_model, save_model
from tests.training import photo_models
from tests.training.photo_models import masked, named
from training.datasets.packed_captions import PackedCaptions, distinct_labels, related_words
from training.datasets.photos.packed import write_packed
from training.evaluation.predict import Predictor, PredictSettings
from training.loop.config import TrainerConfig
from training.loop.initialization import standardize
from training.loop.trainer import Trainer
from training.objective.batch import Batch, Window
from training.objective.objective import CaptionObjective, ObjectiveConfig
from training.pretrain_photos import MERGES_FILE, PretrainPhotosConfig, build_network
from training.train import run
from training.words.synonyms import Synonyms

EVERY_TERM = {"masks": 1.0, "presence": 1.0, "anchor": 1.0, "teacher": 1.0, "named": 1.0, "npr": 0.1, "cmpa": 0.1}


@pytest.fixture
def network():
    return photo_models.network().train()


@pytest.fixture
def part():
    """Two images of which the first has two labels, one of them absent from the second."""
    generator = torch.Generator().manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(2, 3, photo_models.TEXT_WIDTH, generator=generator), dim=-1)
    valid = torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    present = torch.tensor([[1, 1, 0], [1, 1, 0]], dtype=torch.bool)
    masks = torch.zeros(2, 3, 64, 96, dtype=torch.bool)
    masks[:, 0, :32], masks[:, 1, 32:] = True, True
    return Batch(
        torch.randn(2, 3, 64, 96, generator=generator), text, valid, present,
        [["dog", "grass", "car"], ["cat", "sea"]], masks, torch.ones(2, 64, 96, dtype=torch.bool),
    )  # fmt: skip


def test_paper_mode_is_mccl_of_maps_and_projected_film_features(network, part):
    objective = CaptionObjective(network, ObjectiveConfig())
    losses = objective(part, network.decoder)
    with torch.no_grad():
        reduced = network.encode_image(part.images)
        activation = pool_to_tokens(network.decode(reduced, part.text, (2, 3)).sigmoid(), (4, 6))
        film = network.decoder.film(reduced[0].flatten(1, 2).unsqueeze(1), part.text)
        weight, bias = objective.projector.weight[:, :, 0, 0], objective.projector.bias
        expected = MCCLLoss()(*synergy_features(activation, film @ weight.T + bias), part.text, part.present)
    for name in ("align", "cont", "back", "sep", "total"):
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("features", ["conditioned", "frozen"])
def test_every_term_trains_the_decoder_and_leaves_the_encoder(network, part, features):
    objective = CaptionObjective(network, ObjectiveConfig(features=features, **EVERY_TERM)).train()
    losses = objective(part, network.decoder)
    losses["total"].backward()
    assert {*EVERY_TERM, "align", "cont", "back", "sep"} <= set(losses)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert [name for name, p in network.decoder.named_parameters() if p.grad is None] == []
    assert all(p.grad is None for p in network.encoder.parameters())


def test_frozen_features_are_those_of_the_decoder_before_training(network, part):
    objective = CaptionObjective(network, ObjectiveConfig(features="frozen"))
    assert objective.projector is None
    before = network.decoder.reduce(network.encoder.hidden_states(part.images))[1].flatten(1, 2)
    with torch.no_grad():
        network.decoder.dense.weight.neg_()
        activation = pool_to_tokens(network.maps(part.images, part.text).sigmoid(), (4, 6))
        expected = MCCLLoss()(*synergy_features(activation, before.unsqueeze(1)), part.text, part.present)
    torch.testing.assert_close(objective(part, network.decoder)["total"], expected["total"], rtol=1e-3, atol=1e-5)
    assert not any("dense_embedding" in name or "_dense" in name for name in objective.state_dict())


def test_frozen_features_need_a_decoder_with_dense_embeddings(network):
    config = replace(network.config, decoder=replace(network.config.decoder, dense=False))
    network.config, network.decoder = config, build_decoder(config, network.encoder)
    CaptionObjective(network, ObjectiveConfig(presence=1.0))
    with pytest.raises(ValueError, match=r"'small' has no dense embeddings .* choose"):
        CaptionObjective(network, ObjectiveConfig(features="frozen"))


def test_windows_need_position_embeddings(network, part):
    objective = CaptionObjective(network, ObjectiveConfig())
    with pytest.raises(ValueError, match=r"has no position embeddings.*use whole images \(--batches.window 0\)"):
        objective(replace(part, window=Window((128, 128), (0.5, 0.5))), network.decoder)


def test_a_random_decoder_keeps_the_scale_that_it_is_made_with(network, part):
    before = {name: value.clone() for name, value in network.decoder.state_dict().items()}
    standardize(network, part.images, part.text[part.valid])
    assert all(value.equal(before[name]) for name, value in network.decoder.state_dict().items())


@pytest.mark.parametrize("kind", ["conv", "vit"])
def test_mixed_precision_takes_parts_with_windows_and_masks(network, part, kind, small_model):
    window = None
    if kind == "vit":
        network = load_model(small_model)[0].train()
        generator = torch.Generator().manual_seed(0)
        part = replace(part, text=torch.randn(2, 3, network.encoder.text_width, generator=generator))
        window = Window((128, 128), (0.5, 0.5))
    trainer = Trainer(TrainerConfig(accelerator="cpu", precision="bf16-mixed"))
    module = trainer.fabric.setup_module(CaptionObjective(network, ObjectiveConfig(**EVERY_TERM)))
    losses = module(replace(part, window=window), network.decoder)
    trainer.fabric.backward(losses["total"])
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.decoder.parameters())


ABOUT = {"exhaustive": {"nyu": ["ball", "grass", "sky", "dog"], "voc": ["dog", "cat"], "flickr8k": []}}
LABELS = [("brown dog", "dog", "grass", "hound"), ("ball", "sky", "cat"), ("puppy", "sphere"), ("cat", "rug"), ("dog",)]
CAPTIONED = [named("flickr8k", "x" * i, names, ("A caption.",)) for i, names in enumerate(LABELS, 1)]
HELD_OUT = [masked("nyu", "3", "sky", "ball"), masked("voc", "2", "", "dog")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Packed photographs, and a small model of random weights."""
    folder = tmp_path_factory.mktemp("data")
    write_packed(folder / "photos/train", iter([masked("nyu", "1", "ball", "grass"), *CAPTIONED]), ABOUT)
    write_packed(folder / "photos/held_out", iter(HELD_OUT), ABOUT)
    text = photo_models.text_folder(folder / "text")
    torch.manual_seed(0)
    network = build_network(
        PretrainPhotosConfig(
            text=str(text), backbone=photo_models.BACKBONE, weights="none", width=16, ffn=32, heads=2, blocks=1,
            context_width=16, skips=(8, 4), image_size=64,
        )
    )  # fmt: skip
    save_model(folder / "model", network, network.config, torch.float16)
    (folder / "model" / MERGES_FILE).write_bytes((text / MERGES_FILE).read_bytes())
    (folder / "model" / "names.json").write_text('{"format": 1, "names": {}}\n')
    return folder


def arguments(data, output, *more):
    settings = {
        "model": data / "model", "data.source": "photos", "data.photos": data / "photos", "data.cache": data / "cache",
        "batches.image_size": 64, "trainer.output": output, "trainer.accelerator": "cpu", "trainer.batch": 4,
        "trainer.steps": 2, "trainer.warmup": 1, "trainer.log_every": 1, "trainer.image_every": 2, "evaluate": 2,
    }  # fmt: skip
    return [*(f"--{name}={value}" for name, value in settings.items()), *more]


@pytest.mark.parametrize("more", [[], ["--objective.masks=1", "--objective.features=frozen"], ["--decoder=random"]])
def test_the_program_trains_on_captions_of_photographs_and_measures_on_those_held_out(data, tmp_path, more):
    assert run(arguments(data, tmp_path / "run", *more)) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert set(results["before"]) == set(results["after"]) == {"nyu", "voc", "per_class"}
    shown = {"nyu": {"sky", "ball"}, "voc": {"dog"}}  # the mean is over these, whatever the model says
    assert {name: set(iou) for name, iou in results["after"]["per_class"].items()} == shown
    folder = tmp_path / "run/model"
    assert ModelConfig.read(folder).domain == "photographs" and (folder / "names.json").exists()
    Segmenter.load(str(folder), cache_dir=tmp_path).set_vocabulary(["ball", "grass"])
    one, other = (load_file(place / "weights.safetensors") for place in (data / "model", folder))
    moved = {name.split(".")[0] for name in one if not one[name].equal(other[name])}
    assert moved == {"decoder"}


def test_windows_are_refused_before_anything_is_made(data, tmp_path, capsys):
    more = ["--objective.masks=1", "--batches.window=64", "--batches.image_size=0", f"--data.cache={tmp_path / 'made'}"]
    assert run(arguments(data, tmp_path / "run", *more)) == 2
    assert "convolutional" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_measuring_segments_images_of_any_size(data, mode):
    engine = Segmenter.load(str(data / "model"), engine="torch", device="cpu").engine
    text = engine.encode_text(["ball", "grass", "lawn"])
    settings = PredictSettings(mode, short_side=70, window=64, stride=48)
    image = HELD_OUT[0].decode()[0]
    assert Predictor(engine, text, [0, 1, 1], settings).classify(image).shape == image.shape[:2]


def test_packed_captions_give_distinct_things_and_know_the_rest(data):
    pairs = PackedCaptions(data / "photos")
    assert pairs.size == 4, "neither photographs with masks nor those of one label"
    seen = set()
    for epoch in range(8):
        pairs.set_epoch(epoch)
        for pair in pairs:
            assert set(pair.labels) <= set(pair.known)
            seen.add(tuple(sorted(pair.labels)))
    with_dog = {labels for labels in seen if "grass" in labels}
    assert with_dog and all(len(labels) == 2 for labels in with_dog), "a dog and grass, in changing words"
    assert len(with_dog) > 1


def test_words_for_one_thing_are_not_drawn_together():
    related = related_words({"person": Synonyms(("human",), ("human being",), ("man", "woman"))})
    names = ["man", "person", "human", "woman", "old man", "hat"]
    for seed in range(20):
        drawn = set(distinct_labels(names, related, random.Random(seed)))
        assert "hat" in drawn
        assert len(drawn & {"person", "human"}) + bool(drawn & {"man", "woman", "old man"}) == 1
        assert len(drawn & {"man", "old man"}) <= 1


def test_photographs_without_captions_are_named_as_the_problem(tmp_path):
    write_packed(tmp_path / "train", iter([masked("nyu", "1", "ball", "grass")]), ABOUT)
    with pytest.raises(ValueError, match="1 photographs and none with captions"):
        PackedCaptions(tmp_path)


def test_token_grids_fit_what_film_modulates(network, small_model):
    vit, _ = load_model(small_model)
    for model, size in ((network, (64, 96)), (vit, (64, 96))):
        images = torch.zeros(1, 3, *size)
        rows, columns = model.decoder.token_grid(model.grid(images))
        text = torch.ones(1, 2, model.encoder.text_width)
        conditioned = model.decoder.conditioned(model.encode_image(images), text)
        assert conditioned.shape == (1, 2, rows * columns, model.config.decoder.width)
