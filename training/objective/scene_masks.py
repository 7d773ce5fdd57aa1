"""What training on exact masks of generated scenes minimises: maps learn masks, tokens learn nouns and colours."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synseg_model.network.synseg import SynSeg
from training.loop.config import TrainerConfig
from training.loop.optimizers import parameter_groups
from training.objective.batch import MaskBatch
from training.objective.masks import mask_terms
from training.objective.sums import weighted_sum
from training.objective.tokens import TokenLoss


class MaskObjective(nn.Module):
    """A network whose decoder trains behind a frozen encoder."""

    def __init__(self, network: SynSeg, tokens: TokenLoss, whole: tuple[int, int]):
        """Choose what trains.

        Args:
            network: of which the decoder trains.
            tokens: asks the blocks before FiLM what each token lies on.
            whole: rows and columns of tokens of a whole image.
        """
        super().__init__()
        self.network, self.whole = network, whole
        self.trained = nn.ModuleDict({"decoder": network.decoder, "token_loss": tokens})

    @property
    def averaged(self) -> nn.Module:
        """What the Trainer keeps an average of."""
        return self.network.decoder

    def parameter_groups(self, config: TrainerConfig) -> list[dict]:
        """Group the trained parameters; the decoder's blocks are for Muon."""
        return parameter_groups(self.trained, config.weight_decay, config.learning_rate, self.network.decoder.blocks)

    def forward(self, batch: MaskBatch, averaged: nn.Module) -> dict[str, Tensor]:
        """Compute the objective of a batch: encoder and shared blocks see all images, FiLM those that are decoded.

        Args:
            batch: images and masks.
            averaged: is not used.

        Returns:
            Scalars: "total", "masks", "competition" and "tokens".
        """
        network, decoder = self.network, self.network.decoder
        with torch.no_grad():
            # A window is told the positions that it would have in a whole image: with them it attends as far.
            position = network.encoder.window_position(self.whole, *batch.window)
            states = network.encoder.hidden_states(batch.images, network.config.decoder.layers, position)
        reduced = decoder.reduce(states)
        logits = decoder([part[: len(batch.text)] for part in reduced], batch.text, network.grid(batch.images))
        tokens = self.trained["token_loss"](reduced[0][:, 1:], batch.nouns, batch.colors)
        masks = mask_terms(logits, batch.masks, batch.balance)
        return weighted_sum([("masks", 1.0, masks), ("tokens", 1.0, tokens)])
