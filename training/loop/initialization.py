"""Where training starts from: attention as trained ViTs have it, and a decoder scaled to its inputs."""

from __future__ import annotations

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

from synseg_model.network.synseg import SynSeg


def sinusoids(rows: int, columns: int, width: int, step: float = 1.0) -> Tensor:
    """Make fixed two-dimensional position embeddings.

    Args:
        rows, columns: of the grid.
        width: of an embedding, a multiple of 4.
        step: from one row or column to the next. The larger it is, the fewer neighbours are alike.

    Returns:
        (rows*columns, width) in [-1, 1].

    Raises:
        ValueError: width is no multiple of 4.

    Source: Chen et al., arXiv 2104.02057.
    """
    if width % 4:
        raise ValueError(f"width {width}: two-dimensional sinusoids need a multiple of 4")
    frequency = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    y, x = (axis.reshape(-1, 1) * step * frequency for axis in (y, x))
    return torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=1)


@torch.no_grad()
def mimetic_attention(visual: VisionTransformer) -> None:
    """Initialise attention as trained ViTs have it: each token attends to those near it and like it.

    Query times key starts near 0.7 times the identity plus noise, value times output near -0.4 times the identity plus
    noise, and positions start as sinusoids.

    Args:
        visual: an image tower, which is changed in place.

    Source: Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", arXiv 2305.09828.
    """
    rows, columns = visual.grid_size
    visual.positional_embedding[1:] = sinusoids(rows, columns, visual.positional_embedding.shape[1], step=2.0)
    for block in visual.transformer.resblocks:
        mimic(block.attn.in_proj_weight, block.attn.out_proj.weight, block.attn.num_heads)


@torch.no_grad()
def mimic(projection: Tensor, output: Tensor, heads: int) -> None:
    """Draw one attention layer's weights: projection (3C,C) to query, key and value, output (C,C)."""
    width = output.shape[0]
    head = width // heads
    query, key, value = projection.view(3, width, width)
    for start in range(0, width, head):
        u, s, vh = torch.linalg.svd(0.7 * torch.randn(width, width) / width**0.5 + 0.7 * torch.eye(width))
        root = s[:head].sqrt()[:, None]
        query[start : start + head] = root * u[:, :head].T
        key[start : start + head] = root * vh[:head]
    u, s, vh = torch.linalg.svd(0.4 * torch.randn(width, width) / width**0.5 - 0.4 * torch.eye(width))
    root = s.sqrt()
    # out = output @ value @ x: their product is the matrix drawn above
    value.copy_(root[:, None] * vh)
    output.copy_(u * root)


@torch.no_grad()
def standardize(network: SynSeg, images: Tensor, text: Tensor) -> None:
    """Scale the decoder's input layers so that their outputs have mean 0 and variance 1 on real data.

    CLIP's hidden states and raw text embeddings are far from unit variance. A post-norm decoder behind them starts
    slowly or not at all.

    Args:
        network: whose decoder is changed in place.
        images: (B,3,H,W) normalised.
        text: (N,C) embeddings of every training label.
    """
    states = network.encoder.hidden_states(images, network.config.decoder.layers)
    for layer, x in network.decoder.input_layers(states, text):
        y = x @ layer.weight.T
        mean, std = y.mean(dim=0), y.std(dim=0)
        layer.weight.div_(std[:, None])
        layer.bias.copy_(-mean / std)
