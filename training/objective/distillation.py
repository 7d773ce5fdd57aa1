"""What the small text encoder learns: to embed phrases as its teacher does, and to keep their similarities."""

from __future__ import annotations

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from training.loop.config import TrainerConfig
from training.loop.optimizers import parameter_groups
from training.networks.text_student import encode
from training.objective.batch import PhraseBatch


def loss_of(embedded: Tensor, target: Tensor, relational: float, related: int) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch.

    It is 1 - cosine, plus `relational` times the mean squared difference between the student's and the teacher's
    similarities among the first `related` phrases.

    Args:
        embedded: (B,D) the student's embeddings, of any length.
        target: (B,D) of length 1.
        relational: weight of the second term.
        related: phrases that the second term compares with each other.

    Returns:
        The loss, and the mean cosine of the embeddings with their targets.
    """
    embedded = F.normalize(embedded.float(), dim=-1)
    cosine = (embedded * target).sum(dim=-1).mean()
    few, same = embedded[:related], target[:related]
    difference = (few @ few.T - same @ same.T).square().mean()
    return 1 - cosine + relational * difference, cosine


class DistillationObjective(nn.Module):
    """A text tower that learns from a teacher's embeddings."""

    def __init__(self, tower: TextTransformer, relational: float, related: int):
        """Choose what trains.

        Args:
            tower: the student.
            relational: weight of the similarities, see `loss_of`.
            related: phrases that are compared with each other.
        """
        super().__init__()
        self.tower, self.relational, self.related = tower, relational, related

    @property
    def averaged(self) -> nn.Module:
        """What the Trainer keeps an average of."""
        return self.tower

    def parameter_groups(self, config: TrainerConfig) -> list[dict]:
        """Group the trained parameters; the tower's blocks are for Muon, where the config asks for it."""
        blocks = self.tower.transformer.resblocks if config.optimizer == "muon" else ()
        return parameter_groups(self.tower, config.weight_decay, config.learning_rate, blocks)

    def forward(self, batch: PhraseBatch, averaged: nn.Module) -> dict[str, Tensor]:
        """Compute the objective of a batch; `averaged` is not used. Returns "total" and "cosine"."""
        embedded = encode(self.tower, batch.tokens)
        with torch.autocast(batch.tokens.device.type, enabled=False):
            total, cosine = loss_of(embedded, batch.targets, self.relational, self.related)
        return {"total": total, "cosine": cosine}
