"""Small random networks, seeded, for tests of the model code."""

import dataclasses

import pytest
import torch

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig

SMALL_CLIP = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


SMALL_CONFIG = ModelConfig(
    name="small",
    encoder=EncoderConfig(SMALL_CLIP, included=True),
    decoder=DecoderConfig(layers=(0, 1, 3), width=16, heads=2, ffn=32, head="refined"),
    image=ImageConfig(size=64, resize="area"),
)


@pytest.fixture
def small_config():
    """A config whose encoder is tiny and carried by the folder."""
    return SMALL_CONFIG


@pytest.fixture
def small_network(small_config):
    """The network of `small_config` with random weights, in eval mode."""
    from synseg_model.network import SynSeg

    torch.manual_seed(0)
    return SynSeg.from_config(small_config).eval()


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A model folder with random weights, its decoder unlike the shipped one: plain head, a block before FiLM."""
    from synseg_model.checkpoints import save_model
    from synseg_model.network import SynSeg

    decoder = dataclasses.replace(SMALL_CONFIG.decoder, head="plain", conditional_layer=1)
    config = dataclasses.replace(SMALL_CONFIG, decoder=decoder, normalize_text=True)
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("small") / "model", SynSeg.from_config(config), config)


@pytest.fixture(scope="session")
def exported_small(tmp_path_factory, small_model):
    """The exported folder of `small_model`; tests that damage it copy it first."""
    from synseg_model.export import export_model

    folder = tmp_path_factory.mktemp("small") / "exported"
    export_model(small_model, folder)
    return folder


@pytest.fixture(scope="session")
def exported_tiny(tmp_path_factory):
    """A folder with synseg-tiny exported as fp32 and as fp16."""
    from synseg_model.export import PRECISIONS, export_model

    folder = tmp_path_factory.mktemp("tiny")
    for precision in PRECISIONS:
        export_model("synseg-tiny", folder / precision, precision)
    return folder
