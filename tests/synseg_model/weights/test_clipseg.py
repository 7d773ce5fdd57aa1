"""Our network against transformers' CLIPSeg and against the original layout, on random weights made here."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from synseg_model.config import ModelError
from synseg_model.weights.clipseg import read_original
from synseg_model.weights.model_folder import load_model

transformers = pytest.importorskip("transformers")


def make_clipseg(folder, refined, decoder_bias=0.3, conditional_layer=0):
    torch.manual_seed(0)
    config = transformers.CLIPSegConfig(
        text_config={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
        vision_config={
            "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 10, "num_attention_heads": 4,
            "patch_size": 16, "image_size": 224,
        },
        projection_dim=64,
        use_complex_transposed_convolution=refined,
        conditional_layer=conditional_layer,
    )  # fmt: skip
    model = transformers.CLIPSegForImageSegmentation(config).eval()
    for parameter in model.parameters():  # transformers' tiny initial values would hide differences
        nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else decoder_bias, std=0.1)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("refined", [False, True], ids=["plain", "refined"])
@pytest.mark.parametrize("size", [224, 352])
@torch.no_grad()
def test_decoder_equals_transformers_clipseg(tmp_path, refined, size):
    reference = make_clipseg(tmp_path, refined)
    network, _ = load_model(tmp_path)
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    tokens = network.encoder.tokenize(["a photo of a cat.", "grass", "the third label on the left"])
    theirs = reference(
        pixel_values=image.expand(3, -1, -1, -1),
        input_ids=tokens,
        attention_mask=(tokens != 0).long(),
        interpolate_pos_encoding=True,
    ).logits
    ours = network(image, network.encoder.encode_text(tokens))[0]
    assert theirs.std() > 0.1, "a constant map would agree with anything"
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("conditional_layer", [1, 2])
@torch.no_grad()
def test_film_before_a_later_block_equals_transformers(tmp_path, conditional_layer):
    reference = make_clipseg(tmp_path, refined=True, conditional_layer=conditional_layer)
    network, _ = load_model(tmp_path)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    tokens = network.encoder.tokenize(["a photo of a cat.", "grass"])
    embeddings = network.encoder.encode_text(tokens)
    theirs = reference(pixel_values=images, input_ids=tokens, attention_mask=(tokens != 0).long()).logits
    ours = torch.stack([network(images[i : i + 1], embeddings[i : i + 1])[0, 0] for i in range(2)])
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() < 1e-4


def test_every_key_of_the_folder_is_used(tmp_path):
    make_clipseg(tmp_path, refined=True)
    network, _ = load_model(tmp_path)
    stored = sum(tensor.numel() for tensor in load_file(tmp_path / "model.safetensors").values())
    assert sum(parameter.numel() for parameter in network.parameters()) == stored


@pytest.mark.parametrize("change", ["unknown", "missing"])
def test_unknown_and_missing_keys_are_named(tmp_path, change):
    make_clipseg(tmp_path, refined=False)
    tensors = load_file(tmp_path / "model.safetensors")
    if change == "unknown":
        tensors["decoder.extra.weight"] = torch.zeros(1)
        name = "decoder.extra.weight"
    else:
        name = "decoder.film_mul.weight"
        del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{change} keys \['{name}'\]"):
        load_model(tmp_path)


def test_preprocessor_file_decides_size_and_statistics(tmp_path):
    make_clipseg(tmp_path, refined=False)
    values = {"size": {"height": 224, "width": 224}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 1.0, 0.5]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    image = load_model(tmp_path)[0].config.image
    assert (image.size, image.mean, image.std) == (224, (0.1, 0.2, 0.3), (1.0, 1.0, 0.5))


def test_fingerprint_changes_with_any_weight(tmp_path):
    make_clipseg(tmp_path, refined=False)
    before = load_model(tmp_path)[1]
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["decoder.film_mul.bias"][0] += 1
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_model(tmp_path)[1] != before


def original_decoder(refined):
    """Build the modules of the original repository's decoder under its names, with torch's own transformer layer."""
    torch.manual_seed(0)
    layer = lambda: nn.TransformerEncoderLayer(64, 4, 2048, dropout=0.0)  # noqa: E731
    head = nn.ConvTranspose2d(64, 1, 16, stride=16)
    if refined:
        head = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(64, 32, 4, stride=4), nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, stride=4),
        )  # fmt: skip
    return nn.ModuleDict({
        "film_mul": nn.Linear(512, 64), "film_add": nn.Linear(512, 64), "reduce": nn.Linear(768, 64),
        "reduces": nn.ModuleList(nn.Linear(768, 64) for _ in range(3)),
        "blocks": nn.ModuleList(layer() for _ in range(3)), "trans_conv": head,
    })  # fmt: skip


@pytest.mark.parametrize("refined", [False, True], ids=["plain", "refined"])
@torch.no_grad()
def test_original_file_decodes_as_torch_transformer_layers_do(tmp_path, refined):
    modules = original_decoder(refined).eval()
    torch.save(modules.state_dict(), tmp_path / "rd64.pth")
    config, tensors = read_original(tmp_path / "rd64.pth")
    from synseg_model.network.clipseg_decoder import ClipSegDecoder

    decoder = ClipSegDecoder(config.decoder, clip_width=768, text_width=512, patch=16).eval()
    decoder.load_state_dict({key.removeprefix("decoder."): tensor for key, tensor in tensors.items()})

    states = [torch.randn(1, 1 + 12, 768) for _ in range(3)]
    text = torch.randn(1, 1, 512)
    ours = decoder(decoder.reduce(states), text, (3, 4))

    x = None
    for index, state in enumerate(reversed(states)):
        reduced = modules["reduces"][index](state).transpose(0, 1)  # (T, 1, 64): the original is sequence first
        x = reduced if x is None else reduced + x
        if index == 0:
            x = modules["film_mul"](text[0]) * x + modules["film_add"](text[0])
        x = modules["blocks"][index](x)
    theirs = modules["trans_conv"](x[1:].permute(1, 2, 0).reshape(1, 64, 3, 4))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("key", ["extra.weight", "blocks.0.self_attn.odd", "blocks.0.linear3.weight"])
def test_original_file_with_an_unknown_key_is_refused_by_name(tmp_path, key):
    torch.save(original_decoder(False).state_dict() | {key: torch.zeros(1)}, tmp_path / "rd64.pth")
    with pytest.raises(ModelError, match=key):
        read_original(tmp_path / "rd64.pth")


class Payload:
    def __reduce__(self):
        return (print, ("code from a weights file ran",))


def test_a_pickle_that_holds_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"film_mul.weight": Payload()}, tmp_path / "rd64.pth")
    with pytest.raises(ModelError, match="damaged or holds more than tensors"):
        read_original(tmp_path / "rd64.pth")
    assert "ran" not in capsys.readouterr().out


def test_hub_id_without_a_network_names_the_offline_choice(monkeypatch, tmp_path):
    import huggingface_hub

    def no_network(*_args, **_kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(ModelError, match=r"CIDAS/clipseg-rd64-refined.*no route.*synseg-everyday.*-dir DIR.*\.pth"):
        load_model("clipseg-rd64-refined")
