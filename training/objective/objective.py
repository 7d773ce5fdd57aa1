"""What weakly supervised training minimises: the paper's MCCL on FSS vectors, and other terms beside it.

Source of the first: SynSeg, arXiv 2508.06115. The terms `masks`, `presence`, `anchor`, `teacher` and `named` are ours,
`npr` and `cmpa` are of other papers (see `training.objective`); all of them are off by default.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.losses import MCCLLoss
from synseg_model.network.synseg import SynSeg, enlarge
from synseg_model.synergy import pool_to_tokens, synergy_features
from training.loop.schedule import parameter_groups
from training.loop.trainer import TrainerConfig
from training.objective.batch import Part
from training.objective.cmpa import CMPA, CMPAConfig
from training.objective.masks import competition_loss, mask_loss
from training.objective.npr import NPR, NPRConfig


@dataclass
class ObjectiveConfig:
    """Weights of the terms and their modes.

    Args:
        align, cont, back, sep: weights of MCCL's four terms (the paper's lambdas, which it does not publish).
        pairs: all (paper) or distinct (ours), see `synseg_model.losses`.
        clamp: hard (paper) or straight-through (ours).
        features: what the maps pool. conditioned: FiLM's output through a projector that trains along (paper). frozen:
            dense embeddings (ours), which no training can bend towards the text: CLIP's own, or what the decoder of a
            convolutional model makes of its encoder before training.
        masks: weight of self-training (ours) on masks that the model makes of captions before it starts, see
            `training.datasets.caption_masks`.
        presence: weight of an image-level loss (ours): a present label must be active somewhere, an absent one nowhere.
        anchor: weight of a loss (ours) that ties each map to the dense embeddings' similarity to the image's labels.
        anchor_temperature: of the softmax over labels that makes the anchor's target.
        teacher: weight of self-training (ours): pixels take the label that the averaged decoder finds most active
            among those of the caption; the caption is what the masks of the teacher have over an open vocabulary.
        teacher_margin: a pixel counts where the best of the caption's labels reaches this share of its own largest
            activation in the image: the caption says that it is there, however faintly the teacher sees it.
        named: weight of a loss (ours): among labels present and absent, every pixel belongs to one that the caption
            names, no matter which. Needs absent labels, which then lose pixels to the present ones.
        npr: weight of prototypical regularisation, 0.1 in PGSeg; see `training.objective.npr`.
        npr_settings: of that term.
        cmpa: weight of cross-modal prototype alignment; see `training.objective.cmpa`.
        cmpa_settings: of that term.
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


class Objective(nn.Module):
    """A network with what its training needs beside it; see `ObjectiveConfig` for the terms."""

    def __init__(self, network: SynSeg, config: ObjectiveConfig, fresh: bool = False):
        """fresh: the decoder's weights are random and take the learning rate of new layers."""
        super().__init__()
        self.network, self.config, self.fresh = network, config, fresh
        weights = (config.align, config.cont, config.back, config.sep)
        self.mccl = MCCLLoss(weights, pairs=config.pairs, clamp=config.clamp)
        self.projector = None
        width = network.encoder.text_width
        self._dense = network.dense_embedding() if config.uses_dense else None
        if config.uses_synergy and config.features == "conditioned":
            self.projector = nn.Conv2d(network.config.decoder.width, width, 1)
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
        modules = [(self.decoder, new if self.fresh else old)]
        modules += [(module, new) for module in (self.projector, self.npr) if module is not None]
        return [
            {**group, "lr": rate, "peak": rate}
            for module, rate in modules
            for group in parameter_groups(module, config.weight_decay)
        ]

    def forward(self, part: Part, averaged: nn.Module) -> dict[str, Tensor]:
        """Compute the weighted total, its terms, and the statistics that the trainer watches: means over the images."""
        network, config = self.network, self.config
        patches = network.grid(part.images)
        grid = self.decoder.token_grid(patches)
        position = part.window.position(network.encoder, patches) if part.window else None
        states, dense = self._encode(part.images, position)
        reduced = self.decoder.reduce(states)
        logits = self.decoder(reduced, part.text, patches)
        with torch.autocast(part.images.device.type, enabled=False):
            logits = logits.float()
            activation = pool_to_tokens(logits.sigmoid(), grid)  # (B, N, P)
        terms: dict[str, Tensor] = {}
        if config.uses_synergy:
            features = dense.unsqueeze(1) if self.projector is None else self._project(reduced, part.text, grid)
            foreground, background = synergy_features(activation, features)
        if config.uses_mccl:
            terms |= self.mccl(foreground, background, part.text.float(), part.present)
        total = terms.pop("total", logits.new_zeros(()))
        if config.masks:
            fine = enlarge(logits, part.masks.shape[2:])
            terms["masks"] = mask_loss(fine, part.masks, known=part.known, valid=part.valid)
            terms["competition"] = competition_loss(fine, part.masks, part.known, part.valid)
            total = total + config.masks * (terms["masks"] + 0.5 * terms["competition"])
        if config.presence:
            terms["presence"] = presence_loss(pool_to_tokens(logits, grid), part.present, part.valid)
            total = total + config.presence * terms["presence"]
        if config.anchor:
            terms["anchor"] = anchor_loss(
                pool_to_tokens(logits, grid), dense, part.text, part.present, config.anchor_temperature
            )
            total = total + config.anchor * terms["anchor"]
        if config.teacher:
            with torch.no_grad():
                target = averaged(averaged.reduce(states), part.text, patches).float()
            terms["teacher"] = teacher_loss(logits, target, part.present, part.valid, config.teacher_margin)
            total = total + config.teacher * terms["teacher"]
        if config.named:
            terms["named"] = named_loss(logits, part.present, part.valid)
            total = total + config.named * terms["named"]
        if self.npr:
            terms["npr"] = self.npr(foreground, dense, part.text, part.present)
            total = total + config.npr * terms["npr"]
        if self.cmpa:
            terms["cmpa"] = self.cmpa(foreground, part.text, part.present, part.labels)
            total = total + config.cmpa * terms["cmpa"]
        return {"total": total, **terms, **activation_statistics(activation.detach(), part.present)}

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
        features = self.decoder.conditioned(reduced, text)
        batch, labels = features.shape[:2]
        images = features.flatten(0, 1).transpose(1, 2).unflatten(2, grid)  # (B*N, D, h, w)
        return self.projector(images).flatten(2).transpose(1, 2).unflatten(0, (batch, labels))


def presence_loss(logits: Tensor, present: Tensor, valid: Tensor, share: float = 0.05) -> Tensor:
    """Ask each label's most active tokens whether it is in the image (multiple-instance learning).

    logits: (B,N,P). A label's score is the mean of its `share` largest. Present and absent labels weigh the same.
    """
    count = max(1, round(share * logits.shape[2]))
    score = logits.topk(count, dim=2).values.mean(dim=2)
    losses = F.binary_cross_entropy_with_logits(score, present.float(), reduction="none")
    absent = valid & ~present
    parts = [losses[mask].mean() for mask in (present, absent) if mask.any()]
    return sum(parts) / len(parts)


def anchor_loss(logits: Tensor, dense: Tensor, text: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Tie maps to the share that CLIP's own dense similarity gives each label among those of its caption.

    logits: (B,N,P). dense: (B,P,C) frozen. text: (B,N,C).
    """
    similarity = F.normalize(text.float(), dim=-1) @ F.normalize(dense.float(), dim=-1).mT  # (B, N, P)
    similarity = similarity - similarity.mean(dim=2, keepdim=True)  # every label is alike on average over the image
    target = (similarity / temperature).masked_fill(~present.unsqueeze(2), -torch.inf).softmax(dim=1)
    losses = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none")
    return losses[present].mean()


def teacher_loss(logits: Tensor, teacher: Tensor, present: Tensor, valid: Tensor, margin: float) -> Tensor:
    """Learn pseudo-masks: a pixel belongs to the caption's label that the teacher finds most active there.

    logits, teacher: (B,N,H,W). Activations are compared as shares of their label's largest in the image, as class
    activation maps are, so that a label the teacher hardly knows gets the pixels that it fits best and that no other
    label claims. Pixels where none reaches `margin` count for no present label; absent labels are absent everywhere.
    """
    activation = teacher.sigmoid()
    share = activation / activation.amax(dim=(2, 3), keepdim=True)
    best, winner = share.masked_fill(~present[:, :, None, None], -1).max(dim=1, keepdim=True)
    sure = best > margin  # (B, 1, H, W)
    index = torch.arange(logits.shape[1], device=logits.device)[None, :, None, None]
    target = (winner == index) & sure & present[:, :, None, None]
    counts = torch.where(present[:, :, None, None], sure, valid[:, :, None, None])
    losses = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def named_loss(logits: Tensor, present: Tensor, valid: Tensor) -> Tensor:
    """Ask that one of the caption's labels, whichever, wins each pixel: learning with partial labels.

        -log sum_present p,   p = softmax of the logits over present and absent labels

    logits: (B,N,H,W). The mean over pixels of images that have labels of both kinds; 0 where none has. The gradient
    follows the posterior among the present labels, as expectation-maximisation does (Jin and Ghahramani, "Learning with
    Multiple Labels", NIPS 2002; on pixels: Papandreou et al., arXiv 1502.02734): a label that a decoder hardly knows
    needs only to be ahead of the caption's others to win from what is absent.
    """
    among = [logits.masked_fill(~mask[:, :, None, None], -torch.inf) for mask in (valid, present)]
    both = present.any(dim=1) & (valid & ~present).any(dim=1)
    if not both.any():
        return 0 * logits.sum()
    everything, named = (scores[both].logsumexp(dim=1) for scores in among)
    return (everything - named).mean()


def activation_statistics(activation: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Tell what maps (B,N,P) of present labels say: their mean, their deviation over pixels and over labels."""
    keep = present.unsqueeze(2)
    count = present.sum().clamp(min=1)
    labels = keep.sum(dim=1).clamp(min=1)  # (B, 1)
    middle = (activation * keep).sum(dim=1) / labels  # (B, P)
    spread = ((activation - middle.unsqueeze(1)) ** 2 * keep).sum(dim=1) / labels
    several = present.sum(dim=1) > 1  # one label has nothing to differ from
    return {
        "activation/mean": activation.mean(dim=2)[present].sum() / count,
        "activation/pixels": activation.std(dim=2)[present].sum() / count,
        "activation/labels": spread.sqrt().mean(dim=1)[several].mean() if several.any() else spread.new_ones(()),
    }
