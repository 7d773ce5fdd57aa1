"""Small random networks, seeded, for tests of the model code."""

import pytest
import torch

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig

SMALL_CLIP = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture
def small_config():
    """A config whose encoder is tiny and carried by the folder."""
    return ModelConfig(
        name="small",
        encoder=EncoderConfig(SMALL_CLIP, included=True),
        decoder=DecoderConfig(layers=(0, 1, 3), width=16, heads=2, ffn=32, head="refined"),
        image=ImageConfig(size=64, resize="area"),
    )


@pytest.fixture
def small_network(small_config):
    """The network of `small_config` with random weights, in eval mode."""
    from synseg_model.network import SynSeg

    torch.manual_seed(0)
    return SynSeg.from_config(small_config).eval()
