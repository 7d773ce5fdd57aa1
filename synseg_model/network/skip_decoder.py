"""The decoder for encoders with feature levels: FiLM as in CLIPSeg, and skip connections that all labels share.

What no label changes is computed once per image: blocks with attention at strides 32 and 16, an embedding of every
token in the space of texts, and the skip connections of strides 8 and 4. What runs once per label is small, so that ten
labels cost less than the encoder.

    levels ── project, attend ── tokens (stride 16) ── FiLM by the text ── block ── stride 8 ── stride 4 ── logits
                                     └── cosine with the text, added to the logits and shown to the label's block
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.config import DecoderConfig
from synseg_model.network.clipseg_decoder import DecoderBlock, FiLM, halve

__all__ = ["POSITIONS", "SCALE", "LabelBlock", "SkipDecoder"]

POSITIONS = (9, 12)  # rows and columns of learned positions, resampled to an input's grid of stride 32
SCALE = 10.0  # factor of the cosine in the logits, at the start of training


class SkipDecoder(nn.Module):
    """Decode labels at stride 16, then refine their maps at strides 8 and 4.

    Logits have a quarter of the input's rows and columns; `SynSeg.forward` brings them to the input's size.

    Args:
        config: the decoder's config.
        channels: channels of the encoder's levels, finest first.
        text_width: channels C of text embeddings.
        patch: the encoder's coarsest stride.
    """

    def __init__(self, config: DecoderConfig, channels: Sequence[int], text_width: int, patch: int):
        """channels: of the encoder's levels, finest first. patch: the encoder's coarsest stride."""
        super().__init__()
        self.config, self.patch = config, patch
        finest, fine, middle, coarse = channels
        wide, width, (skip8, skip4) = config.context_width, config.width, config.skips
        self.project_coarse = nn.Conv2d(coarse, wide, 1)
        self.project_middle = nn.Conv2d(middle, wide, 1)
        self.position = nn.Parameter(0.02 * torch.randn(*POSITIONS, wide))
        blocks = max(0, config.conditional_layer)
        self.blocks = nn.ModuleList(DecoderBlock(wide, config.heads, config.ffn) for _ in range(blocks))
        self.reduce_tokens = nn.Linear(wide, width)
        self.norm = nn.LayerNorm(width)
        self.skip8 = nn.Sequential(nn.Conv2d(fine + wide, skip8, 1), nn.ReLU(), nn.Conv2d(skip8, skip8, 3, padding=1))
        self.skip4 = nn.Conv2d(finest, skip4, 1)
        self.film = FiLM(text_width, width)
        self.block = LabelBlock(width)
        self.attention = nn.Linear(width, 1)
        self.context = nn.Linear(width, width)
        self.spread = nn.Linear(width, width)
        self.to8 = nn.Conv2d(width, skip8, 1)
        self.mix8 = nn.Sequential(
            nn.Conv2d(skip8, skip8, 3, padding=1, groups=skip8), nn.Conv2d(skip8, skip8, 1), nn.ReLU()
        )
        self.to4 = nn.Conv2d(skip8, skip4, 1)
        self.head4 = nn.Conv2d(skip4, 1, 3, padding=1)
        self.head16 = nn.Linear(width, 1)
        if config.dense:
            self.dense = nn.Linear(wide, text_width)
            self.dense_scale = nn.Parameter(torch.tensor(SCALE).log())
            self.dense_shown = nn.Parameter(0.1 * torch.randn(width))
        if config.presence:
            self.presence = nn.Linear(width, 1)
        nn.init.constant_(self.head16.bias, -2.0)  # most labels are absent from most pixels
        with torch.no_grad():  # a text has length 1, and FiLM starts near scale 1, shift 0
            for layer, bias in ((self.film.scale, 1.0), (self.film.shift, 0.0)):
                layer.weight.normal_(std=1.0)
                layer.bias.fill_(bias)

    def reduce(self, levels: Sequence[Tensor], positions: Tensor | None = None) -> list[Tensor]:
        """Do all work that no label changes.

        Args:
            levels: (B,C,H/stride,W/stride) of strides 4, 8, 16 and 32.
            positions: (h,w,C) position embeddings of the grid of stride 32; None for the learned ones, resampled.

        Returns:
            Tokens (B,h,w,D) at stride 16; their embeddings (B,h,w,C) of length 1, or (B,h,w,0) in a decoder without
            dense; the skip connections (B,S,h,w) of strides 8 and 4.
        """
        finest, fine, middle, coarse = levels
        x = self.project_coarse(coarse).permute(0, 2, 3, 1)  # (B, h, w, C)
        x = x + (self.positions(x.shape[1:3]) if positions is None else positions).to(x.dtype)
        for block in self.blocks[:-1]:
            x = _on_tokens(block, x)
        x = _resize(x.permute(0, 3, 1, 2), middle.shape[2:]) + self.project_middle(middle)
        x = x.permute(0, 2, 3, 1)
        for block in self.blocks[-1:]:
            x = _on_tokens(block, x)
        tokens = self.norm(self.reduce_tokens(x))
        dense = F.normalize(self.dense(x), dim=-1) if self.config.dense else x[..., :0]
        return [tokens, dense, self._make_skip8(fine, x.permute(0, 3, 1, 2)), self.skip4(finest)]

    def _make_skip8(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Run `skip8` on the level of stride 8 and on tokens (B,C,h,w) that are resampled to it."""
        first, *rest = self.skip8
        # A 1x1 convolution may come before the resampling, which then has fewer channels to resample.
        own, other = first.weight.split([fine.shape[1], coarse.shape[1]], dim=1)
        x = F.conv2d(fine, own, first.bias) + _resize(F.conv2d(coarse, other), fine.shape[2:])
        for layer in rest:
            x = layer(x)
        return x

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Resample the learned positions, bicubic.

        Args:
            grid: rows and columns of stride 32.

        Returns:
            (h,w,C).
        """
        if tuple(grid) == POSITIONS:
            return self.position
        planes = self.position.permute(2, 0, 1)[None].float()
        return F.interpolate(planes, size=tuple(grid), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)

    def forward(self, reduced: Sequence[Tensor], text: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Decode every label of every image.

        Args:
            reduced: what `reduce` returned.
            text: (B,K,C) of length 1.
            grid: unused; the tokens have their own.

        Returns:
            Logits (B,K,H/4,W/4).
        """
        return self.decode(reduced, text)[0]

    def decode(self, reduced: Sequence[Tensor], text: Tensor) -> tuple[Tensor, Tensor | None]:
        """Decode as `forward` does, and return the presence of each label as well.

        Args:
            reduced: what `reduce` returned.
            text: (B,K,C) of length 1.

        Returns:
            Logits (B,K,H/4,W/4), and the logits of presence (B,K); None for these in a decoder without presence.
        """
        tokens, dense, skip8, skip4 = reduced
        batch, labels = text.shape[:2]
        rows, columns = tokens.shape[1:3]
        x = self.conditioned(reduced, text)
        similarity = None
        if self.config.dense:
            similarity = F.normalize(text, dim=-1) @ dense.flatten(1, 2).transpose(1, 2)  # (B, K, P)
            x = x + similarity.unsqueeze(-1) * self.dense_shown * SCALE
        x = self.block(x.flatten(0, 1).unflatten(1, (rows, columns))).flatten(1, 2)  # (B*K, P, D)
        share = self.attention(x).softmax(dim=1)
        context = F.relu(self.context(share.transpose(1, 2) @ x))  # (B*K, 1, D)
        x = x + self.spread(context)
        low = self.head16(x).unflatten(0, (batch, labels)).squeeze(-1)  # (B, K, P)
        if similarity is not None:
            low = low + self.dense_scale.exp() * similarity
        x = x.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)  # (B*K, D, h, w)
        x = _add_shared(_resize(self.to8(x), skip8.shape[2:]), skip8)
        x = x + self.mix8(x)
        x = _add_shared(_resize(self.to4(x), skip4.shape[2:]), skip4)
        logits = _to_one_channel(self.head4, x).unflatten(0, (batch, labels)).squeeze(2)  # (B, K, H/4, W/4)
        logits = logits + _resize(low.unflatten(2, (rows, columns)), skip4.shape[2:])
        if not self.config.presence:
            return logits, None
        presence = self.presence(context).reshape(batch, labels)
        # The log of the product of both probabilities, where both are small: an absent label has no pixel.
        return logits - F.softplus(-presence)[:, :, None, None], presence

    def conditioned(self, reduced: Sequence[Tensor], text: Tensor) -> Tensor:
        """Return the visual features after FiLM, for every label and token.

        Args:
            reduced: what `reduce` returned.
            text: (B,K,C) of length 1.

        Returns:
            (B,K,P,D) with the P tokens of `token_grid`.
        """
        return self.film(reduced[0].flatten(1, 2).unsqueeze(1), text)

    def token_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the tokens that FiLM modulates, at stride 16, for a `grid` of stride 32."""
        return 2 * grid[0], 2 * grid[1]

    def input_layers(self, states: Sequence[Tensor], text: Tensor) -> list[tuple[nn.Linear, Tensor]]:
        """Return nothing: texts have length 1, and layers behind a backbone learn quickly without scaled inputs."""
        return []

    def bytes_per_label(self, grid: tuple[int, int], element_size: int = 4) -> int:
        """Estimate the memory that one more label takes while it is decoded.

        Args:
            grid: rows and columns of stride 32.
            element_size: bytes per number.
        """
        return self.config.bytes_per_label(4 * grid[0] * grid[1], self.patch, element_size)

    def coarsen(self, reduced: Sequence[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        """Average what `reduce` returned in blocks of 2x2; odd ends give smaller blocks.

        Args:
            reduced: what `reduce` returned.
            grid: unused; the tokens have their own.
        """
        return [halve(part, channels_last=place < 2) for place, part in enumerate(reduced)]


class LabelBlock(nn.Module):
    """Refine the tokens of one label: a depthwise convolution and a small MLP with a residual connection.

    Source: ConvNeXt, arXiv 2201.03545.

    Args:
        width: channels D of tokens.
    """

    def __init__(self, width: int):
        super().__init__()
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on tokens as images (N,h,w,D); returns (N,h,w,D)."""
        around = self.around(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.down(F.relu(self.up(self.norm(around))))


def _on_tokens(block: nn.Module, x: Tensor) -> Tensor:
    """Run a block of tokens (B,P,C) on an image of them (B,h,w,C)."""
    return block(x.flatten(1, 2)).unflatten(1, x.shape[1:3])


def _add_shared(x: Tensor, shared: Tensor) -> Tensor:
    """Add a shared skip connection (B,S,h,w) to each label's features (B*K,S,h,w), and rectify."""
    batch = shared.shape[0]
    return F.relu(x.unflatten(0, (batch, -1)) + shared.unsqueeze(1)).flatten(0, 1)


def _to_one_channel(head: nn.Conv2d, x: Tensor) -> Tensor:
    """Run a 3x3 convolution whose output has one channel.

    Every runtime pads one channel to the width of its registers, eight or sixteen. Without a backward pass each input
    channel is filtered on its own and a sum follows, which is the same in a third of the time.
    """
    if torch.is_grad_enabled():
        return head(x)
    apart = F.conv2d(x, head.weight.transpose(0, 1), padding=head.padding, groups=x.shape[1])
    return F.conv2d(apart, torch.ones_like(head.weight[:, :, :1, :1]), head.bias)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
