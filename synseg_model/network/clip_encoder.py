"""The frozen CLIP encoder: hidden states of the image tower at any input size, embeddings of the text tower."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.config import EncoderConfig, ModelError
from synseg_model.install_hints import without_network
from synseg_model.network.attention import attend
from synseg_model.network.input_sides import check_input
from synseg_model.network.text_tower import ReadsText, load_tokenizer
from synseg_model.preprocess import remembered

__all__ = ["ClipEncoder", "build_encoder", "interpolate_position_embedding", "open_clip_config", "run_block"]


def interpolate_position_embedding(embedding: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Resample a learned position embedding to another token grid, bicubic; the class token stays.

    Args:
        embedding: (1+h*w,C), the class token first.
        source: rows and columns of the embedding's own grid, which need not be equal.
        target: rows and columns of the new grid.

    Returns:
        (1+rows*columns,C).
    """
    if source == target:
        return embedding
    cls_token, grid = embedding[:1], embedding[1:]
    grid = grid.reshape(1, *source, -1).permute(0, 3, 1, 2)  # (1, C, h, w)
    grid = F.interpolate(grid.float(), size=target, mode="bicubic", align_corners=False)
    return torch.cat([cls_token, grid[0].flatten(1).T.to(embedding.dtype)])


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block of open_clip's image tower, with our attention where the block has the common one.

    Args:
        block: the block.
        x: tokens (B,T,C).

    Returns:
        (B,T,C).
    """
    if type(block) is not ResidualAttentionBlock:
        return block(x)
    attended = attend(*_project(block, x)).transpose(1, 2).flatten(2)
    x = x + block.ls_1(block.attn.out_proj(attended))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _project(block: nn.Module, x: Tensor) -> Tensor:
    """Project tokens (B,T,C) as a block's attention does: queries, keys and values (3,B,heads,T,d)."""
    projected = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    return projected.unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)


class ClipEncoder(ReadsText, nn.Module):
    """Encode images and texts by both towers of an open_clip ViT, frozen and always in eval mode.

    Args:
        clip: an open_clip model whose image tower is a ViT.
        tokenizer: the tokenizer that fits the text tower; None where no text is read.

    Attributes:
        patch: side of an image token in pixels.
        width: channels C of hidden states.
        depth: number of blocks in the image tower.
        text_width: channels D of text embeddings.

    Raises:
        ModelError: for another kind of image tower.
    """

    def __init__(self, clip: nn.Module, tokenizer: open_clip.SimpleTokenizer | None = None):
        super().__init__()
        visual = clip.visual
        if not isinstance(visual, VisionTransformer) or not hasattr(visual, "class_embedding"):
            raise ModelError(
                f"image tower {type(visual).__name__} is not an open_clip VisionTransformer: choose a ViT-* model"
            )
        self.clip = clip.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.patch: int = visual.patch_size[0]
        self.width: int = visual.conv1.out_channels
        self.depth: int = len(visual.transformer.resblocks)
        self.text_width: int = visual.output_dim
        self._positions: dict[tuple, Tensor] = {}

    @property
    def image(self) -> nn.Module:
        """The image tower."""
        return self.clip.visual

    @property
    def text(self) -> nn.Module:
        """The text tower, which is open_clip's CLIP itself."""
        return self.clip

    @property
    def learned_positions(self) -> Tensor:
        """Position embeddings (h,w,C) of the tower's own grid, without the class token."""
        return self.clip.visual.positional_embedding[1:].unflatten(0, tuple(self.clip.visual.grid_size))

    def train(self, mode: bool = True) -> ClipEncoder:
        """Stay in eval mode."""
        return super().train(False)  # frozen: dropout stays off

    def embed_patches(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        """Turn images into the input tokens of the transformer.

        Args:
            images: (B,3,H,W) normalised; sides are multiples of `patch`.
            position: (1+P,C) position embeddings; None for the tower's own, interpolated to the grid of the images.

        Returns:
            (B,1+P,C), the class token first.

        Raises:
            ValueError: for images of another shape.
        """
        check_input(images, self.patch)
        visual = self.clip.visual
        x = visual.conv1(images)  # (B, C, h, w)
        grid = (x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)  # (B, P, C)
        if position is None:
            position = self.position(grid)
        x = torch.cat([visual.class_embedding.expand(x.shape[0], 1, -1).to(x.dtype), x], dim=1)
        return visual.ln_pre(x + position.to(x.dtype))

    def position(self, grid: tuple[int, int]) -> Tensor:
        """Return the tower's position embeddings for a token grid; each grid is resampled once and kept.

        A camera has one grid, and on a GPU resampling took half of a frame's time.

        Args:
            grid: rows and columns of tokens.

        Returns:
            (1+P,C), the class token first.
        """
        learned, own = self.clip.visual.positional_embedding, tuple(self.clip.visual.grid_size)
        if learned.requires_grad or torch.compiler.is_compiling():  # weights that train, graphs without memory
            return interpolate_position_embedding(learned, own, grid)
        # Embeddings depend on the weights, the device and the type.
        key = (grid, learned.data_ptr(), learned._version, learned.dtype, learned.device)
        with torch.inference_mode(False), torch.no_grad():
            return remembered(self._positions, key, lambda: interpolate_position_embedding(learned, own, grid))

    def window_position(self, grid: tuple[int, int], rows: slice, columns: slice) -> Tensor:
        """Return the position embeddings that a window has in its whole image.

        Args:
            grid: rows and columns of the whole image in patches.
            rows, columns: the patches of the window.

        Returns:
            (1+P,C) for the P patches of the window, the class token first.
        """
        whole = self.position(grid)
        return torch.cat([whole[:1], whole[1:].unflatten(0, grid)[rows, columns].flatten(0, 1)])

    def hidden_states(self, images: Tensor, layers: Sequence[int], position: Tensor | None = None) -> list[Tensor]:
        """Return the outputs of some blocks of the image tower; blocks after the last of them do not run.

        Args:
            images: (B,3,H,W) normalised; sides are multiples of `patch`.
            layers: block indices from 0.
            position: as `embed_patches` takes it.

        Returns:
            (B,1+P,C) for each layer, in ascending order.

        Raises:
            ValueError: for a block that the tower does not have, and for images of another shape.
        """
        if not layers or not all(0 <= layer < self.depth for layer in layers):
            raise ValueError(f"layers {list(layers)}: this encoder has blocks 0 to {self.depth - 1}")
        x = self.embed_patches(images, position)
        states = []
        for index, block in enumerate(self.clip.visual.transformer.resblocks[: max(layers) + 1]):
            x = run_block(block, x)
            if index in layers:
                states.append(x)
        return states

    def attention(self, images: Tensor, layer: int) -> Tensor:
        """Return the self-attention of one block, softmax(Q K^T / sqrt(d)), averaged over its heads.

        Args:
            images: (B,3,H,W) normalised.
            layer: block index from 0.

        Returns:
            (B,1+P,1+P): rows are the tokens that attend and sum to 1; the class token comes first.

        Raises:
            ValueError: for a block that the tower does not have.
        """
        if not 0 <= layer < self.depth:
            raise ValueError(f"layer {layer}: this encoder has blocks 0 to {self.depth - 1}")
        x = self.hidden_states(images, [layer - 1])[0] if layer else self.embed_patches(images)
        query, key, _ = _project(self.clip.visual.transformer.resblocks[layer], x)
        return (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)

    def image_embedding(self, images: Tensor, position: Tensor | None = None) -> Tensor:
        """Embed whole images into the space that images and texts share; any size, unlike open_clip.

        Args:
            images: (B,3,H,W) normalised.
            position: as `embed_patches` takes it.

        Returns:
            (B,D), not normalised.
        """
        visual = self.clip.visual
        x = self.embed_patches(images, position)
        for block in visual.transformer.resblocks:
            x = run_block(block, x)
        return self.pool(x)

    def pool(self, x: Tensor) -> Tensor:
        """Turn the outputs of the last block into embeddings of whole images.

        Args:
            x: (B,1+P,C).

        Returns:
            (B,D), not normalised.
        """
        visual = self.clip.visual
        pooled, _ = visual._pool(x)
        return pooled if visual.proj is None else pooled @ visual.proj

    def dense_embedding(self, x: Tensor) -> Tensor:
        """Embed every patch into the space that images and texts share.

        Where the tower averages its patches, these are the vectors whose mean is the embedding of the image. Where it
        reads a class token, a patch of the last block attends to itself alone (MaskCLIP, arXiv 2112.01071), because its
        other attention serves the class token.

        Args:
            x: hidden states (B,1+P,C) of the block before the last one.

        Returns:
            (B,P,D), not normalised.
        """
        visual = self.clip.visual
        last = visual.transformer.resblocks[-1]
        if visual.pool_type == "avg":
            x = run_block(last, x)
        else:
            attention = last.attn
            value, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
            x = x + last.ls_1(attention.out_proj(F.linear(last.ln_1(x), value, bias)))
            x = x + last.ls_2(last.mlp(last.ln_2(x)))
        x = x if visual.final_ln_after_pool and visual.pool_type == "avg" else visual.ln_post(x)
        x = x[:, 1:]
        return x if visual.proj is None else x @ visual.proj


def open_clip_config(model: str | dict) -> dict:
    """Look up an open_clip architecture.

    Args:
        model: a name that open_clip knows, or a config, which is returned as it is.

    Raises:
        ModelError: for an unknown name.
    """
    if isinstance(model, dict):
        return model
    config = open_clip.get_model_config(model)
    if config is None:
        raise ModelError(f"open_clip has no model {model!r}; `open_clip.list_models()` returns the names that it has")
    return config


def build_encoder(config: EncoderConfig, folder: Path | None = None, download: bool = True) -> ClipEncoder:
    """Build the CLIP encoder that a model's config names.

    Args:
        config: the encoder's config. open_clip fetches public weights, or finds them in its cache. An included encoder
            has random weights until the model folder's `weights.safetensors` fills it.
        folder: the model folder, which holds the tokenizer's merges where `config` names them.
        download: False leaves public weights random.

    Raises:
        ModelError: where the architecture, its weights or its tokenizer cannot be had.
    """
    clip = _bare_clip(config.model) if config.included or not download else _public_clip(config)
    tokenizer = load_tokenizer(config, folder, clip.context_length, clip.vocab_size)
    return ClipEncoder(clip, tokenizer)


def _bare_clip(model: str | dict) -> nn.Module:
    values = dict(open_clip_config(model))
    values.pop("custom_text", None)
    try:
        return open_clip.CLIP(**values)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"open_clip cannot build the encoder {values}: {error}") from None


def _public_clip(config: EncoderConfig) -> nn.Module:
    if not isinstance(config.model, str) or not config.pretrained:
        raise ModelError(
            f"encoder {config.model!r} names no public weights and the folder carries none: "
            "set 'pretrained' to an open_clip tag or include the encoder"
        )
    open_clip_config(config.model)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return open_clip.create_model(config.model, pretrained=config.pretrained)
    except Exception as error:  # errors of hub, file system and parser: the advice is the same
        raise ModelError(
            f"cannot get the CLIP weights {config.model}/{config.pretrained} ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no details'}); this needs a network once. "
            + without_network()
        ) from None
