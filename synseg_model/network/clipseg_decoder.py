"""CLIPSeg's decoder with FiLM: hidden states of CLIP and text embeddings in, one map of logits per label out.

Source: Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", arXiv 2112.10003 (CLIPSeg); FiLM: Perez
et al., arXiv 1709.07871.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.config import DecoderConfig
from synseg_model.network.attention import attend

__all__ = ["ClipSegDecoder", "DecoderBlock", "FiLM", "PatchTransposed", "halve", "make_head"]


class FiLM(nn.Module):
    """Modulate features by a text, channel by channel: x -> scale(t) * x + shift(t).

    Source: Perez et al., arXiv 1709.07871.

    Args:
        text_width: channels C of text embeddings.
        width: channels D of features.
    """

    def __init__(self, text_width: int, width: int):
        super().__init__()
        self.scale = nn.Linear(text_width, width)
        self.shift = nn.Linear(text_width, width)

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """Modulate features by text embeddings.

        Args:
            features: (B,1,T,D) or (B,K,T,D).
            text: (B,K,C).

        Returns:
            (B,K,T,D).
        """
        return self.scale(text).unsqueeze(2) * features + self.shift(text).unsqueeze(2)


class DecoderBlock(nn.Module):
    """Run one post-norm transformer block, as torch's nn.TransformerEncoderLayer does without dropout.

    Args:
        width: channels D of tokens, a multiple of `heads`.
        heads: number of attention heads.
        ffn: width of the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, ffn: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on tokens (B,T,D); returns (B,T,D)."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = attend(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = self.norm1(x + self.out(attended))
        return self.norm2(x + self.down(F.relu(self.up(x), inplace=True)))


class PatchTransposed(nn.ConvTranspose2d):
    """Turn each pixel into a patch: a transposed convolution whose kernel is its stride.

    It is computed as one product per input pixel, which is several times as fast on a CPU as the general transposed
    convolution. Weights and results are the same.

    Args:
        width: channels C of the input.
        out_width: channels O of the output.
        patch: side of a patch in pixels.
    """

    def __init__(self, width: int, out_width: int, patch: int):
        super().__init__(width, out_width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Turn pixels (N,C,h,w) into patches (N,O,h*patch,w*patch), channels-last in memory."""
        patch = self.stride[0]
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (patch*patch*O, C)
        patches = F.linear(x.permute(0, 2, 3, 1), weight, self.bias.repeat(patch * patch))
        rows = patches.unflatten(3, (patch, patch, -1)).transpose(2, 3)  # (N, h, patch, w, patch, O)
        return rows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def make_head(kind: str, width: int, patch: int) -> nn.Module:
    """Build the output head: tokens as an image (N,D,h,w) -> logits (N,1,h*patch,w*patch).

    Args:
        kind: "plain" is one transposed convolution with kernel = stride = patch. "refined" is CLIPSeg's 3x3 convolution
            and two transposed convolutions (patch/4, then 4).
        width: channels D of tokens.
        patch: side of a token in pixels.

    Raises:
        ValueError: for a refined head with a patch that 4 does not divide.
    """
    if kind == "plain":
        return PatchTransposed(width, 1, patch)
    if patch % 4:
        raise ValueError(f"head 'refined' with a patch of {patch}: expected a patch that 4 divides, or head 'plain'")
    first = patch // 4
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        PatchTransposed(width, width // 2, first),
        nn.ReLU(),
        PatchTransposed(width // 2, 1, 4),
    )


class ClipSegDecoder(nn.Module):
    """Decode labels as CLIPSeg does. The work that no label changes is apart and runs once per image.

    Args:
        config: the decoder's config.
        clip_width: channels of CLIP's hidden states.
        text_width: channels C of text embeddings.
        patch: side of a token in pixels.
    """

    def __init__(self, config: DecoderConfig, clip_width: int, text_width: int, patch: int):
        super().__init__()
        depth = len(config.layers)
        self.config, self.patch = config, patch
        self.film = FiLM(text_width, config.width)
        self.reduces = nn.ModuleList(nn.Linear(clip_width, config.width) for _ in range(depth))
        self.blocks = nn.ModuleList(DecoderBlock(config.width, config.heads, config.ffn) for _ in range(depth))
        self.head = make_head(config.head, config.width, patch)

    def reduce(self, hidden_states: Sequence[Tensor]) -> list[Tensor]:
        """Do all work that no label changes: project hidden states and run the blocks before FiLM.

        Args:
            hidden_states: (B,1+P,C) each, ascending layers.

        Returns:
            (B,1+P,D) each, deepest first: what FiLM modulates, then what is added before each later block.
        """
        reduced = [reduce(state) for reduce, state in zip(self.reduces, reversed(hidden_states), strict=True)]
        shared = self.config.conditional_layer
        x = reduced[0]
        for block, skip in zip(self.blocks[:shared], reduced[1 : shared + 1], strict=True):
            x = block(x) + skip
        return [x, *reduced[shared + 1 :]]

    def forward(self, reduced: Sequence[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode every label of every image.

        Args:
            reduced: what `reduce` returned, (B,1+P,D) each.
            text: (B,K,C).
            grid: rows h and columns w of tokens, h*w = P.

        Returns:
            Logits (B,K,h*patch,w*patch).
        """
        batch, labels = text.shape[:2]
        x = self._film(reduced, text)
        first, *rest = self.blocks[self.config.conditional_layer :]
        x = first(x.flatten(0, 1))  # (B*K, 1+P, D)
        for block, skip in zip(rest, reduced[1:], strict=True):
            x = (x.unflatten(0, (batch, labels)) + skip.unsqueeze(1)).flatten(0, 1)
            x = block(x)
        image = x[:, 1:].unflatten(1, grid)  # the class token is carried until here, then dropped
        # Tokens already lie channels-last, the layout in which convolutions are fastest on CPU and GPU.
        logits = self.head(image.permute(0, 3, 1, 2))
        return logits.reshape(batch, labels, grid[0] * self.patch, grid[1] * self.patch)

    def _film(self, reduced: Sequence[Tensor], text: Tensor) -> Tensor:
        """Modulate what `reduce` returned by text (B,K,C): (B,K,1+P,D), the class token first."""
        return self.film(reduced[0].unsqueeze(1), text)

    def conditioned(self, reduced: Sequence[Tensor], text: Tensor) -> Tensor:
        """Return the visual features after FiLM, for every label and token.

        Args:
            reduced: what `reduce` returned.
            text: (B,K,C).

        Returns:
            (B,K,P,D) with the P tokens of `token_grid`, without the class token.
        """
        return self._film(reduced, text)[:, :, 1:]

    def token_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the tokens that FiLM modulates, for an input of `grid` patches."""
        return grid

    def input_layers(self, states: Sequence[Tensor], text: Tensor) -> list[tuple[nn.Linear, Tensor]]:
        """Pair each layer that reads the encoder or the texts with its inputs.

        Args:
            states: hidden states as `reduce` takes them.
            text: (N,C).

        Returns:
            Layers and their inputs, (rows,C) each.
        """
        inputs = [(layer, state.flatten(0, 1)) for layer, state in zip(self.reduces, reversed(states), strict=True)]
        return [*inputs, (self.film.scale, text), (self.film.shift, text)]

    def bytes_per_label(self, grid: tuple[int, int], element_size: int = 4) -> int:
        """Estimate the memory that one more label takes while it is decoded.

        Args:
            grid: rows and columns of patches.
            element_size: bytes per number.
        """
        return self.config.bytes_per_label(1 + grid[0] * grid[1], self.patch, element_size)

    def coarsen(self, reduced: Sequence[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        """Average what `reduce` returned in blocks of 2x2 tokens; class tokens stay.

        Args:
            reduced: what `reduce` returned.
            grid: rows and columns of tokens; odd ends give smaller blocks.
        """
        images = (tokens[:, 1:].unflatten(1, grid) for tokens in reduced)
        blocks = (halve(image, channels_last=True).flatten(1, 2) for image in images)
        return [torch.cat([tokens[:, :1], block], dim=1) for tokens, block in zip(reduced, blocks, strict=True)]


def halve(x: Tensor, channels_last: bool) -> Tensor:
    """Average images in blocks of 2x2; odd ends give smaller blocks.

    Args:
        x: (B,h,w,C) or (B,C,h,w).
        channels_last: whether `x` is (B,h,w,C).
    """
    planes = x.permute(0, 3, 1, 2) if channels_last else x
    if not planes.shape[1]:  # a part that this decoder does not have
        return x
    planes = F.avg_pool2d(planes, 2, ceil_mode=True)
    return planes.permute(0, 2, 3, 1) if channels_last else planes
