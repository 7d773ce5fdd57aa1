"""The config of a model: `config.json` of a model folder, read into frozen dataclasses. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "CONFIG_FILE",
    "DECODER_MEMORY",
    "DEFAULT_MODEL",
    "MAX_LABELS",
    "PRESETS",
    "WEIGHTS_FILE",
    "DecoderConfig",
    "EncoderConfig",
    "ImageConfig",
    "ModelConfig",
    "ModelError",
]

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
DEFAULT_MODEL = "synseg-everyday"  # the shipped model that everything uses unless told otherwise
PRESETS = {"clipseg-rd64-refined": "CIDAS/clipseg-rd64-refined"}  # names for ids of the Hugging Face hub
MAX_LABELS = 1203  # largest number of labels by default: the size of LVIS
SKIP_STRIDE = 4  # pixels of the input for one logit of a decoder with skip connections
DECODER_MEMORY = 256 * 2**20  # bytes; beyond this, labels are decoded in several chunks

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ModelError(ValueError):
    """A model that is missing, damaged or of another kind; the text is one line for the user."""


@dataclass(frozen=True)
class EncoderConfig:
    """Name the frozen encoders of images and texts: both towers of a CLIP, or a timm backbone and a text tower.

    Attributes:
        model: an open_clip architecture ("ViT-B-16-quickgelu") or a whole open_clip model config. With a backbone it is
            {"text_cfg": {...}}, the arguments of open_clip's TextTransformer.
        pretrained: open_clip's tag of public weights ("openai"); None where the folder carries the encoder.
        included: whether `weights.safetensors` holds both towers.
        merges: file in the model folder with the BPE merges of a tokenizer smaller than CLIP's own.
        backbone: timm's name of a convolutional image encoder ("tf_efficientnet_lite0"); None for a CLIP's image tower.
        levels: the backbone's feature levels that the decoder reads, as timm numbers them, finest first.

    Raises:
        ModelError: for values that do not fit each other.
    """

    model: str | dict
    pretrained: str | None = None
    included: bool = False
    merges: str | None = None
    backbone: str | None = None
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.backbone is None and self.levels:
            raise ModelError(f"encoder levels {list(self.levels)}: only a backbone has them, and the config names none")
        if self.backbone is not None:
            if not isinstance(self.model, dict) or set(self.model) != {"text_cfg"}:
                raise ModelError('encoder model: a backbone needs {"text_cfg": {...}}, the text tower beside it')
            if not self.included:
                raise ModelError(f"encoder backbone {self.backbone!r}: its weights must be included in the folder")


@dataclass(frozen=True)
class DecoderConfig:
    """Shape the decoder, by default as CLIPSeg does (rd64: width 64, 4 heads, FFN 2048).

    The attributes from `skips` on are for encoders with feature levels (`EncoderConfig.backbone`), see
    `skip_decoder.py`.

    Attributes:
        layers: encoder blocks whose outputs the decoder reads, ascending. The decoder has one block for each, deepest
            first.
        width: channels of the tokens after FiLM.
        heads: number of attention heads.
        ffn: width of a block's feed-forward layer.
        head: "plain" or "refined", see `clipseg_decoder.make_head`.
        conditional_layer: number of blocks before FiLM. No label changes what they compute, so they run once per image.
        skips: channels, at strides 8 and 4, of what one label adds to the skip connections; empty for none, as in
            CLIPSeg.
        context_width: width of the blocks before FiLM, which all labels share.
        dense: whether the cosine of projected tokens and the text is added to the logits.
        presence: whether a score of the whole image lowers the logits of labels that are not in it.

    Raises:
        ModelError: for values that are out of range or do not fit each other.
    """

    layers: tuple[int, ...] = (3, 6, 9)
    width: int = 64
    heads: int = 4
    ffn: int = 2048
    head: str = "plain"
    conditional_layer: int = 0
    skips: tuple[int, ...] = ()
    context_width: int = 0
    dense: bool = False
    presence: bool = False

    def __post_init__(self) -> None:
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ModelError(
                f"decoder layers {list(self.layers)}: expected distinct block indices from 0, in ascending order"
            )
        attending = self.context_width or self.width
        if self.width < 1 or self.heads < 1 or attending < 1 or attending % self.heads:
            raise ModelError(f"decoder width {attending} is not a multiple of its {self.heads} heads")
        if self.head not in ("plain", "refined"):
            raise ModelError(f"decoder head {self.head!r}: expected 'plain' or 'refined'")
        if not 0 <= self.conditional_layer < len(self.layers):
            raise ModelError(
                f"decoder conditional_layer {self.conditional_layer}: expected 0 to {len(self.layers) - 1}, "
                "the index of a block"
            )

        if self.skips and (len(self.skips) != 2 or min(self.skips) < 1 or self.context_width < 1):
            raise ModelError(
                f"decoder skips {list(self.skips)}, context_width {self.context_width}: expected two numbers of "
                "channels, for strides 8 and 4, and a width of 1 or more"
            )
        if not self.skips and (self.context_width or self.dense or self.presence):
            raise ModelError("decoder context_width, dense and presence need skips: only a decoder with skips has them")

    @property
    def stride(self) -> int:
        """Pixels of the input for one logit, along a side."""
        return SKIP_STRIDE if self.skips else 1

    def bytes_per_label(self, tokens: int, patch: int, element_size: int = 4) -> int:
        """Estimate the memory that one more label takes while it is decoded, from the largest live tensors.

        Args:
            tokens: number of tokens that FiLM modulates, a class token included.
            patch: side of a token in pixels.
            element_size: bytes per number.
        """
        if self.skips:
            return element_size * tokens * (4 * self.width + 4 * 4 * self.skips[0] + 3 * 16 * self.skips[1])
        attention = self.heads * tokens * tokens
        head = 3 * self.width // 2 * patch**2 // 16 * tokens if self.head == "refined" else 0
        output = 2 * patch**2 * tokens
        return element_size * (max(tokens * (6 * self.width + 2 * self.ffn), attention) + head + output)


@dataclass(frozen=True)
class ImageConfig:
    """Say how a frame becomes the network's input.

    Attributes:
        size: side of the square input in pixels. With resize="area" the input keeps the frame's aspect ratio, at about
            size*size pixels.
        resize: "square" or "area".
        mean, std: statistics of the RGB channels, which are in [0, 1].

    Raises:
        ModelError: for values that are out of range.
    """

    size: int = 352
    resize: str = "square"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.resize not in ("square", "area"):
            raise ModelError(f"image resize {self.resize!r}: expected 'square' or 'area'")
        if self.size < 1:
            raise ModelError(f"image size {self.size}: expected a positive number of pixels")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ModelError(
                f"image mean {list(self.mean)} and std {list(self.std)}: expected three numbers each, and std above 0"
            )

    def input_size(self, height: int, width: int, patch: int) -> tuple[int, int]:
        """Choose the size of the network's input for a frame.

        Args:
            height, width: size of the frame in pixels.
            patch: side of a token in pixels.

        Returns:
            Height and width in pixels, multiples of `patch`.
        """
        if self.resize == "square":
            side = max(1, round(self.size / patch)) * patch
            return side, side
        scale = self.size / (height * width) ** 0.5
        # A panorama must not shrink to one row of patches: at least four rows, at most sixteen times as wide.
        least = 4 * patch
        rows, columns = (max(least, round(side * scale / patch) * patch) for side in (height, width))
        most = 16 * least
        return min(rows, most), min(columns, most)


@dataclass(frozen=True)
class ModelConfig:
    """Describe a model folder.

    Attributes:
        name: the model's name.
        encoder, decoder, image: the parts of the network and its input.
        templates: prompts, each with one "{}" for the label; their embeddings are averaged.
        normalize_text: whether text embeddings are scaled to length 1 before FiLM; CLIPSeg's are not.
        threshold: activation from which a pixel belongs to a label's mask, in [0, 1].
        context_length: largest number of tokens that the text tower reads.
        domain: which images the model is for, in words, such as "photographs" or "generated scenes"; "" says nothing.
        training, results: how the weights were made and what they reach; free-form, for people.
        format: version of this description.

    Raises:
        ModelError: for values that are out of range or do not fit each other.
    """

    name: str
    encoder: EncoderConfig
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    templates: tuple[str, ...] = ("a photo of a {}.",)
    normalize_text: bool = False
    threshold: float = 0.5
    context_length: int = 77
    domain: str = ""
    training: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ModelError(f"model format {self.format!r}: this version of synseg reads format {FORMAT}")
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise ModelError(f"templates {list(self.templates)}: each needs exactly one '{{}}' for the label")
        if not 0.0 <= self.threshold <= 1.0:
            raise ModelError(f"threshold {self.threshold}: expected a number from 0 to 1")
        levels, layers = self.encoder.levels, self.decoder.layers
        if self.encoder.backbone is not None and (levels != layers or len(levels) != 4 or not self.decoder.skips):
            raise ModelError(
                f"encoder levels {list(levels)}, decoder layers {list(layers)}, skips {list(self.decoder.skips)}: with "
                "a backbone, levels and layers are the same four, of strides 4, 8, 16 and 32, and the decoder has skips"
            )
        if self.encoder.backbone is None and self.decoder.skips:
            raise ModelError(f"decoder skips {list(self.decoder.skips)}: they need an encoder with a backbone")

    @property
    def image_size(self) -> int:
        """Side of the network's square input in pixels, see `ImageConfig.size`."""
        return self.image.size

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build a config from parsed JSON.

        Args:
            values: the parsed object.

        Raises:
            ModelError: for unknown, missing or mistyped keys; the message names each of them.
        """
        return _build(cls, values, "config")

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """Read the `config.json` of a model folder.

        Args:
            folder: the model folder.

        Raises:
            ModelError: where the file is missing or wrong.
        """
        path = Path(folder) / CONFIG_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"no {CONFIG_FILE} in {folder}: expected a model folder") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ModelError(f"cannot read {path}: {error}") from None
        try:
            return cls.from_dict(values)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None

    def to_json(self) -> str:
        """Write the config as JSON, as `read` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


_NESTED = {"encoder": EncoderConfig, "decoder": DecoderConfig, "image": ImageConfig}
_SEQUENCES = {"layers": int, "levels": int, "skips": int, "mean": float, "std": float, "templates": str}
_SCALARS = {
    "name": str, "pretrained": (str, type(None)), "included": bool, "merges": (str, type(None)), "model": (str, dict),
    "backbone": (str, type(None)), "context_width": int, "dense": bool, "presence": bool,
    "width": int, "heads": int, "ffn": int, "head": str, "conditional_layer": int, "size": int, "resize": str,
    "normalize_text": bool, "threshold": (int, float), "context_length": int, "domain": str, "training": dict,
    "results": dict, "format": int,
}  # fmt: skip


_LIST_NAMES = {int: "whole numbers", float: "numbers", str: "texts"}
_JSON_NAMES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    type(None): "null",
}


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ModelError(f"{where} is {type(values).__name__}: expected an object")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(values))
    if unknown or missing:
        parts = [f"unknown keys {unknown}"] * bool(unknown) + [f"missing keys {missing}"] * bool(missing)
        raise ModelError(f"{where} has {' and '.join(parts)}")
    built = {}
    for key, value in values.items():
        if key in _NESTED:
            built[key] = _build(_NESTED[key], value, f"{where}.{key}")
        elif key in _SEQUENCES:
            kind = _SEQUENCES[key]
            accepted = (int, float) if kind is float else kind
            if not isinstance(value, list) or not all(isinstance(item, accepted) for item in value):
                raise ModelError(f"{where}.{key} is {value!r}: expected a list of {_LIST_NAMES[kind]}")
            built[key] = tuple(kind(item) for item in value)
        elif not isinstance(value, _SCALARS[key]) or (isinstance(value, bool) and _SCALARS[key] is not bool):
            kinds = _SCALARS[key] if isinstance(_SCALARS[key], tuple) else (_SCALARS[key],)
            raise ModelError(f"{where}.{key} is {value!r}: expected {' or '.join(_JSON_NAMES[kind] for kind in kinds)}")
        else:
            built[key] = value
    return cls(**built)
