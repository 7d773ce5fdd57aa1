import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from synseg_model.config import ModelError
from synseg_model.weights.model_folder import load_model, save_model


@pytest.fixture
def folder(tmp_path, small_network, small_config):
    return save_model(tmp_path / "model", small_network, small_config)


@torch.no_grad()
def test_saved_model_loads_to_the_same_logits(folder, small_network):
    images, text = torch.randn(1, 3, 64, 96), torch.randn(3, 48)
    loaded, _ = load_model(folder)
    assert torch.equal(loaded(images, text), small_network(images, text))


@torch.no_grad()
def test_half_precision_on_disk_computes_in_float32(tmp_path, small_network, small_config):
    half = save_model(tmp_path / "half", small_network, small_config, torch.float16)
    full = save_model(tmp_path / "full", small_network, small_config)
    assert (half / "weights.safetensors").stat().st_size < 0.55 * (full / "weights.safetensors").stat().st_size
    loaded, _ = load_model(half)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_folder_without_its_encoder_holds_the_decoder_alone(tmp_path, small_network, small_config):
    import dataclasses

    encoder = dataclasses.replace(small_config.encoder, included=False, pretrained="openai")
    folder = save_model(tmp_path, small_network, dataclasses.replace(small_config, encoder=encoder))
    keys = load_file(folder / "weights.safetensors").keys()
    assert keys and all(key.startswith("decoder.") for key in keys)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot read"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "cannot read"),
        (lambda f: (f / "config.json").write_text("[]"), "expected an object"),
        (lambda f: (f / "weights.safetensors").unlink(), "no weights.safetensors"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"nonsense" * 10), "is damaged"),
        (lambda f: (f / "weights.safetensors").write_bytes((f / "weights.safetensors").read_bytes()[:-9]), "damaged"),
    ],
)
def test_damaged_folder_is_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(ModelError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["drop", "add", "reshape", "nan"])
def test_weights_that_do_not_fit_are_named(folder, change):
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    key = "decoder.film.scale.bias"
    if change == "drop":
        del tensors[key]
    elif change == "add":
        tensors["decoder.surplus"] = torch.zeros(1)
        key = "decoder.surplus"
    elif change == "reshape":
        tensors[key] = torch.zeros(3)
    else:
        tensors[key][0] = float("nan")
    save_file(tensors, path)
    with pytest.raises(ModelError, match=key):
        load_model(folder)


@pytest.mark.parametrize("name", ["nothing-like-this", "", "a/b/c", "nul\0byte", "../models/synseg-tiny/x"])
def test_unknown_model_names_what_there_is(name):
    with pytest.raises(ModelError, match=r"no model .*synseg-tiny"):
        load_model(name)


def test_a_mistyped_path_is_not_looked_for_on_the_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(ModelError, match=f"no model folder '{folder.parent.name}/mdel'"):
        load_model(f"{folder.parent.name}/mdel")


def test_config_with_an_unknown_key_is_refused_by_name(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["decoder"]["wdith"] = 3
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="wdith"):
        load_model(folder)
