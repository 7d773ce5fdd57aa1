"""Deep supervision: the tokens that all labels share know what they lie on, before any label is decoded."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 20  # of cosines before the softmax
COLORS = 0.3  # weight of colours beside nouns


class TokenLoss(nn.Module):
    """Ask the blocks before FiLM for tokens that match their noun's and their colour's text.

    Every label competes at every token for the price of one matrix product, where decoding a label costs a block and
    the head. Only training needs it.
    """

    def __init__(self, width: int, nouns: Tensor, colors: Tensor, things: int, stuff: float = 0.3):
        """Keep the texts and draw a projection.

        Args:
            width: D of the tokens.
            nouns: (N,C) text embeddings of all nouns, things first.
            colors: (M,C) text embeddings of all colours.
            things: how many of the nouns are things; the rest is stuff.
            stuff: weight of a token of stuff, where one of a thing has 1.
        """
        super().__init__()
        self.project = nn.Linear(width, nouns.shape[1])
        # Text embeddings share a large common part, which tells nothing apart.
        for name, table in (("nouns", nouns), ("colors", colors)):
            self.register_buffer(name, F.normalize(table - table.mean(dim=0), dim=1).T, persistent=False)
        weight = torch.where(torch.arange(len(nouns)) < things, 1.0, stuff)
        self.register_buffer("weight", weight.to(nouns.device), persistent=False)

    def forward(self, tokens: Tensor, nouns: Tensor, colors: Tensor) -> Tensor:
        """Compute the cross-entropy of the tokens' choices.

        Args:
            tokens: (B,P,D).
            nouns: (B,P) int64, the noun of each token; -1 counts nowhere.
            colors: (B,P) int64, its colour; -1 counts nowhere.

        Returns:
            A scalar.
        """
        embedding = SCALE * F.normalize(self.project(tokens).float(), dim=-1).flatten(0, 1)
        loss = F.cross_entropy(embedding @ self.nouns, nouns.flatten(), self.weight, ignore_index=-1)
        if (colors >= 0).any():
            loss = loss + COLORS * F.cross_entropy(embedding @ self.colors, colors.flatten(), ignore_index=-1)
        return loss
