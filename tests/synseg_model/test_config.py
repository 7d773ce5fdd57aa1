import json

import pytest

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig, ModelError


def test_config_survives_json(small_config):
    assert ModelConfig.from_dict(json.loads(small_config.to_json())) == small_config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"templates": ["a photo"]}, "exactly one"),
        ({"templates": []}, "exactly one"),
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"threshold": "0.5"}, "config.threshold"),
        ({"normalize_text": 1}, "config.normalize_text"),
        ({"decoder": {"layers": [6, 3]}}, "ascending"),
        ({"decoder": {"width": 65}}, "multiple"),
        ({"decoder": {"head": "huge"}}, "'huge'"),
        ({"decoder": {"conditional_layer": 3}}, "conditional_layer 3: expected 0 to 2"),
        ({"decoder": {"conditional_layer": -1}}, "conditional_layer -1"),
        ({"image": {"resize": "squash"}}, "'squash'"),
        ({"image": {"std": [1, 1, 0]}}, "std above 0"),
        ({"encoder": {}}, "missing keys"),
        ({"enconder": {}}, "unknown keys"),
    ],
)
def test_wrong_values_are_named(change, message):
    values = {"name": "x", "encoder": {"model": "ViT-B-16"}} | change
    with pytest.raises(ModelError, match=message):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [((480, 640), (136, 184)), ((640, 480), (184, 136)), ((160, 160), (160, 160)), ((1080, 1920), (120, 216))],
)
def test_area_resize_keeps_the_aspect_ratio_in_whole_patches(frame, expected):
    assert ImageConfig(size=160, resize="area").input_size(*frame, patch=8) == expected


@pytest.mark.parametrize("frame", [(1, 10_000), (10_000, 1), (1, 1)])
def test_extreme_frames_get_a_bounded_input(frame):
    height, width = ImageConfig(size=160, resize="area").input_size(*frame, patch=8)
    assert min(height, width) >= 32 and max(height, width) <= 512


def test_square_resize_rounds_to_whole_patches():
    assert ImageConfig(size=350).input_size(480, 640, patch=16) == (352, 352)


def test_defaults_are_clipsegs():
    config = ModelConfig("x", EncoderConfig("ViT-B-16-quickgelu", pretrained="openai"))
    assert config.decoder == DecoderConfig((3, 6, 9), 64, 4, 2048, "plain")
    assert (config.image.size, config.context_length, config.normalize_text) == (352, 77, False)
