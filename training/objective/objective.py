"""What training from captions minimises: the paper's MCCL on FSS vectors, and other terms beside it.

Source of the first: SynSeg, arXiv 2508.06115. The terms `masks`, `presence`, `anchor`, `teacher` and `named` are ours,
`npr` and `cmpa` are of other papers; all of these are off by default. Each term has a file of its own here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from synseg_model.losses import MCCLLoss
from synseg_model.network.synseg import SynSeg, enlarge
from synseg_model.synergy import pool_to_tokens, synergy_features
from training.loop.config import TrainerConfig
from training.loop.optimizers import parameter_groups
from training.objective.anchor import anchor_loss
from training.objective.batch import Batch
from training.objective.cmpa import CMPA, CMPAConfig
from training.objective.masks import mask_terms
from training.objective.mccl import Projector
from training.objective.named import named_loss
from training.objective.npr import NPR, NPRConfig
from training.objective.presence import presence_loss
from training.objective.statistics import activation_statistics
from training.objective.sums import Term, weighted_sum
from training.objective.teacher import teacher_loss


@dataclass
class ObjectiveConfig:
    """Weights of the terms, and their modes.

    Args:
        align: weight of MCCL's alignment. The paper calls the four weights of MCCL lambda and does not publish them.
        cont: weight of MCCL's contrast with the background.
        back: weight of MCCL's term on backgrounds.
        sep: weight of MCCL's separation of labels.
        pairs: pairs of labels that `back` and `sep` compare: all (paper) or distinct (ours).
        clamp: how cosines are kept within bounds: hard (paper) or straight-through (ours, which keeps the gradient).
        features: what the maps pool. conditioned: FiLM's output through a projector that trains along (paper). frozen:
            dense embeddings that no training can bend towards the text (ours). They are CLIP's own, or what the decoder
            of a convolutional model makes of its encoder before training.
        masks: weight of self-training on masks that the model makes of captions before training starts (ours), see
            `training.datasets.caption_masks`.
        presence: weight of an image-level loss (ours): a present label is active somewhere, an absent one nowhere.
        anchor: weight of a loss that ties each map to the similarity of dense embeddings and labels (ours).
        anchor_temperature: temperature of the softmax over labels that makes the anchor's target, above 0.
        teacher: weight of self-training while the model trains (ours): a pixel takes the label of the caption that the
            averaged decoder finds most active there.
        teacher_margin: a pixel counts where the best label of the caption reaches this share of its own largest
            activation in the image, from 0 to 1.
        named: weight of a loss on pixels (ours): each belongs to some label of the caption, and to no absent label.
        npr: weight of prototypical regularisation, 0.1 in PGSeg; see `training.objective.npr`.
        npr_settings: settings of `npr`.
        cmpa: weight of cross-modal prototype alignment; see `training.objective.cmpa`.
        cmpa_settings: settings of `cmpa`.
    """

    align: float = 1.0
    cont: float = 1.0
    back: float = 1.0
    sep: float = 1.0
    pairs: str = "all"
    clamp: str = "hard"
    features: str = "conditioned"
    masks: float = 0.0
    presence: float = 0.0
    anchor: float = 0.0
    anchor_temperature: float = 0.05
    teacher: float = 0.0
    teacher_margin: float = 0.5
    named: float = 0.0
    npr: float = 0.0
    npr_settings: NPRConfig = field(default_factory=NPRConfig)
    cmpa: float = 0.0
    cmpa_settings: CMPAConfig = field(default_factory=CMPAConfig)

    def __post_init__(self) -> None:
        if self.features not in ("conditioned", "frozen"):
            raise ValueError(f"objective.features is {self.features!r}: expected 'conditioned' or 'frozen'")
        names = ("align", "cont", "back", "sep", "masks", "presence", "anchor", "teacher", "named", "npr", "cmpa")
        weights = {name: getattr(self, name) for name in names}
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise ValueError(f"weights of the objective are {weights}: expected none below 0 and one above")
        if isinstance(self.npr_settings, dict):  # a config that was written as JSON, or taken apart by asdict
            self.npr_settings = NPRConfig(**self.npr_settings)
        if isinstance(self.cmpa_settings, dict):
            self.cmpa_settings = CMPAConfig(**self.cmpa_settings)

    @property
    def uses_mccl(self) -> bool:
        return max(self.align, self.cont, self.back, self.sep) > 0

    @property
    def uses_absent(self) -> bool:
        """Whether a term looks at labels that are not in the caption."""
        return max(self.masks, self.presence, self.teacher, self.named) > 0

    @property
    def uses_synergy(self) -> bool:
        """Whether a term looks at foreground vectors."""
        return self.uses_mccl or max(self.npr, self.cmpa) > 0

    @property
    def uses_dense(self) -> bool:
        """Whether a term looks at dense embeddings that no training changes."""
        return (self.uses_synergy and self.features == "frozen") or max(self.anchor, self.npr) > 0


@dataclass
class Seen:
    """What the terms look at: a batch, and what the network makes of it.

    Attributes:
        batch: images and labels.
        logits: (B,N,h,w) float32.
        grid: rows and columns of tokens, P in all.
        activation: (B,N,P) in [0, 1].
        dense: (B,P,C) embeddings that no training changes, where a term asks for them.
        foreground, background: (B,N,C) synergy vectors, where a term asks for them.
        teach: returns the logits (B,N,h,w) of the averaged decoder.
    """

    batch: Batch
    logits: Tensor
    grid: tuple[int, int]
    activation: Tensor
    dense: Tensor | None
    foreground: Tensor | None
    background: Tensor | None
    teach: Callable[[], Tensor]

    @property
    def tokens(self) -> Tensor:
        """Return the logits (B,N,P) at the tokens."""
        return pool_to_tokens(self.logits, self.grid)


class CaptionObjective(nn.Module):
    """A network with what its training from captions needs beside it; see `ObjectiveConfig` for the terms.

    Example:
        >>> network, _ = load_model("synseg-tiny")
        >>> objective = CaptionObjective(network, ObjectiveConfig())
        >>> losses = objective(batch, objective.averaged)     # batch: training.objective.batch.Batch
        >>> losses["total"].backward()
    """

    def __init__(self, network: SynSeg, config: ObjectiveConfig, fresh: bool = False):
        """Build what the terms need.

        Args:
            network: whose decoder trains.
            config: weights and modes of the terms.
            fresh: the decoder's weights are random and take the learning rate of new layers.

        Raises:
            ValueError: a term needs dense embeddings, and the network has none.
        """
        super().__init__()
        self.network, self.config, self.fresh = network, config, fresh
        weights = (config.align, config.cont, config.back, config.sep)
        self.mccl = MCCLLoss(weights, pairs=config.pairs, clamp=config.clamp)
        self.projector = None
        width = network.encoder.text_width
        self._dense = network.dense_embedding() if config.uses_dense else None
        if config.uses_synergy and config.features == "conditioned":
            self.projector = Projector(network.config.decoder.width, width)
        self.npr = NPR(width, config.npr_settings) if config.npr else None
        self.cmpa = CMPA(width, config.cmpa_settings) if config.cmpa else None

    @property
    def decoder(self) -> nn.Module:
        return self.network.decoder

    @property
    def averaged(self) -> nn.Module:
        """What the Trainer keeps an average of."""
        return self.network.decoder

    def parameter_groups(self, config: TrainerConfig) -> list[dict]:
        """Group the trained parameters: pre-trained or new, with weight decay (matrices) or without (vectors)."""
        new, old = config.new_learning_rate, config.learning_rate
        blocks = self.decoder.blocks if config.optimizer == "muon" else ()
        groups = parameter_groups(self.decoder, config.weight_decay, new if self.fresh else old, blocks)
        for module in (self.projector, self.npr):
            if module is not None:
                groups += parameter_groups(module, config.weight_decay, new)
        return groups

    def terms(self, seen: Seen) -> Iterator[Term]:
        """Yield every term that is on: its name, weight and value."""
        config, batch = self.config, seen.batch
        if config.uses_mccl:
            yield "mccl", 1.0, self.mccl(seen.foreground, seen.background, batch.text.float(), batch.present)
        if config.masks:
            fine = enlarge(seen.logits, batch.masks.shape[2:])
            yield "masks", config.masks, mask_terms(fine, batch.masks, known=batch.known, valid=batch.valid)
        if config.presence:
            yield "presence", config.presence, presence_loss(seen.tokens, batch.present, batch.valid)
        if config.anchor:
            target = (seen.dense, batch.text, batch.present, config.anchor_temperature)
            yield "anchor", config.anchor, anchor_loss(seen.tokens, *target)
        if config.teacher:
            target = (seen.teach(), batch.present, batch.valid, config.teacher_margin)
            yield "teacher", config.teacher, teacher_loss(seen.logits, *target)
        if config.named:
            yield "named", config.named, named_loss(seen.logits, batch.present, batch.valid)
        if config.npr:
            yield "npr", config.npr, self.npr(seen.foreground, seen.dense, batch.text, batch.present)
        if config.cmpa:
            yield "cmpa", config.cmpa, self.cmpa(seen.foreground, batch.text, batch.present, batch.labels)

    def forward(self, batch: Batch, averaged: nn.Module) -> dict[str, Tensor]:
        """Compute the objective of a batch.

        Args:
            batch: images and labels.
            averaged: the averaged decoder, which `teacher` learns from.

        Returns:
            Scalars, means over the images: "total"; every term; and the statistics that the trainer watches.
        """
        seen = self._see(batch, averaged)
        return weighted_sum(self.terms(seen)) | activation_statistics(seen.activation.detach(), batch.present)

    def _see(self, batch: Batch, averaged: nn.Module) -> Seen:
        """Run the network as far as the terms need it."""
        network = self.network
        patches = network.grid(batch.images)
        grid = self.decoder.token_grid(patches)
        position = batch.window.position(network.encoder, patches) if batch.window else None
        states, dense = self._encode(batch.images, position)
        reduced = self.decoder.reduce(states)
        logits = self.decoder(reduced, batch.text, patches)
        with torch.autocast(batch.images.device.type, enabled=False):
            logits = logits.float()
            activation = pool_to_tokens(logits.sigmoid(), grid)  # (B, N, P)
        foreground = background = None
        if self.config.uses_synergy:
            features = dense.unsqueeze(1) if self.projector is None else self._project(reduced, batch.text, grid)
            foreground, background = synergy_features(activation, features)

        @torch.no_grad()
        def teach() -> Tensor:
            return averaged(averaged.reduce(states), batch.text, patches).float()

        return Seen(batch, logits, grid, activation, dense, foreground, background, teach)

    @torch.no_grad()
    def _encode(self, images: Tensor, position: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """Run the frozen encoder once: the decoder's hidden states and, where a term needs them, embeddings (B,P,C)."""
        layers, dense = self.network.config.decoder.layers, self._dense
        asked = sorted({*layers, *dense.layers}) if dense else layers
        states = dict(zip(asked, self.network.encoder.hidden_states(images, asked, position), strict=True))
        embedding = dense.embed([states[layer] for layer in dense.layers]) if dense else None
        return [states[layer] for layer in layers], embedding

    def _project(self, reduced: list[Tensor], text: Tensor, grid: tuple[int, int]) -> Tensor:
        """Project FiLM's output (B,N,P,D) to the text's dimension, (B,N,P,C)."""
        return self.projector(self.decoder.conditioned(reduced, text), grid)
