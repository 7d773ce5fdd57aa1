"""What training on photographs minimises: terms of masks where there are masks, of whole images where there are names.

Each term is a function of tensors; `PhotoObjective` weighs them. With masks a pixel knows which of the sample's names
are true of it; captions and names of whole images say only that a name is somewhere in the image, or nowhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.losses import MCCLLoss
from synseg_model.network.synseg import SynSeg
from synseg_model.synergy import pool_to_tokens, synergy_features
from training.datasets.photos import UNLABELLED
from training.loop.schedule import parameter_groups
from training.loop.trainer import TrainerConfig
from training.objective.objective import activation_statistics, teacher_loss
from training.objective.photo_batch import PhotoBatch

LOSS_STRIDE = 2  # pixels of the input for one of the loss


@dataclass
class PhotoTerms:
    """Weights of the terms.

    Args:
        pixels: binary cross-entropy of every name at every labelled pixel.
        dice: overlap of each present name with its mask.
        competition: every labelled pixel chooses among the names and "none of them".
        presence: whether each name is in the crop, of samples with masks.
        image: the same for images with captions or a name, by the most active part of each map and by its presence.
        spread: a name of a caption covers no more than `largest_share` of its image.
        mccl: the paper's MCCL on images with captions, pooling the dense embeddings that no label changes, over
            distinct pairs and with a clamp that lets gradients through (see docs/results.md on why).
        teacher: pixels of images with captions take the name that the averaged weights find most active among those of
            the caption: masks of captions, made while training.
        top_share: part of a map that is its most active one.
        largest_share: of an image that a name of its caption covers.
    """

    pixels: float = 2.0
    dice: float = 1.0
    competition: float = 1.0
    presence: float = 0.2
    image: float = 0.3
    spread: float = 1.0
    mccl: float = 0.0
    teacher: float = 0.0
    top_share: float = 0.04
    largest_share: float = 0.35

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0 or (name.endswith("share") and value > 1):
                raise ValueError(f"{name} is {value}: expected 0 or more" + ", at most 1" * name.endswith("share"))


class PhotoObjective(nn.Module):
    """A network of which backbone and decoder train; batch statistics and the text tower stay as they are."""

    def __init__(self, network: SynSeg, terms: PhotoTerms, backbone_rate: float, frozen_backbone: bool = False):
        """backbone_rate: the backbone's learning rate as a share of the decoder's."""
        super().__init__()
        self.network, self.terms, self.backbone_rate = network, terms, backbone_rate
        network.encoder.image.requires_grad_(not frozen_backbone)
        self.mccl = MCCLLoss(pairs="distinct", clamp="straight-through")
        self.trained = nn.ModuleDict({"image": network.encoder.image, "decoder": network.decoder})

    def train(self, mode: bool = True) -> PhotoObjective:
        """Switch the mode of all but the encoder: its batch statistics stay those of ImageNet."""
        super().train(mode)
        self.network.encoder.train()
        return self

    @property
    def averaged(self) -> nn.Module:
        """What the Trainer keeps an average of."""
        return self.trained

    def parameter_groups(self, config: TrainerConfig) -> list[dict]:
        """Group the trained parameters: decoder or backbone, with weight decay (matrices) or without (vectors)."""
        rates = {"decoder": config.new_learning_rate, "image": config.new_learning_rate * self.backbone_rate}
        return [
            {**group, "lr": rate, "peak": rate}
            for name, rate in rates.items()
            for group in parameter_groups(self.trained[name], config.weight_decay)
            if group["params"]
        ]

    def forward(self, batch: PhotoBatch, averaged: nn.Module) -> dict[str, Tensor]:
        """Return the weighted total, its terms and the statistics that the trainer watches: means over a batch."""
        network, terms = self.network, self.terms
        reduced = network.encode_image(batch.images)
        logits, presence = network.decoder.decode(reduced, batch.texts)
        whole = (~batch.masked).nonzero()[:, 0]
        target = None
        if terms.teacher and len(whole):
            with torch.no_grad():
                levels = averaged["image"](batch.images[whole])
                target = averaged["decoder"](averaged["decoder"].reduce(levels), batch.texts[whole]).float()
        with torch.autocast(batch.images.device.type, enabled=False):
            found = photo_terms(logits.float(), None if presence is None else presence.float(), batch, terms)
            if terms.mccl and len(whole):
                found["mccl"] = self._mccl(logits[whole].float(), reduced[1][whole].float(), batch, whole)
            if target is not None:
                found["teacher"] = teacher_loss(
                    logits[whole].float(), target, batch.present[whole], batch.valid[whole], margin=0.5
                )
            total = sum(getattr(terms, name) * value for name, value in found.items())
            shown = batch.masked[:, None] & batch.present
            if not shown.any():  # captions alone: their maps must not look as if they had collapsed
                shown = batch.present
            statistics = activation_statistics(logits.detach().float().sigmoid().flatten(2), shown)
        return {"total": total, **found, **statistics}

    def _mccl(self, logits: Tensor, dense: Tensor, batch: PhotoBatch, rows: Tensor) -> Tensor:
        """Compute MCCL of images with at least two names: maps (b,K,h,w) pool dense embeddings (b,h,w,C)."""
        activation = pool_to_tokens(logits.sigmoid(), dense.shape[1:3])
        foreground, background = synergy_features(activation, dense.flatten(1, 2).unsqueeze(1))
        several = batch.present[rows].sum(dim=1, keepdim=True) > 1
        found = self.mccl(foreground, background, batch.texts[rows].float(), batch.present[rows] & several)
        return found["total"]


def photo_terms(logits: Tensor, presence: Tensor | None, batch: PhotoBatch, terms: PhotoTerms) -> dict[str, Tensor]:
    """Compute every term of logits (B,K,h,w) and presence (B,K); terms without a sample are 0."""
    nothing = 0 * logits.sum()
    found = dict.fromkeys(("pixels", "dice", "competition", "presence", "image", "spread"), nothing)
    masked = batch.masked.nonzero()[:, 0]
    if len(masked):
        size = tuple(side // LOSS_STRIDE for side in batch.images.shape[2:])
        fine = F.interpolate(logits[masked], size=size, mode="bilinear", align_corners=False).flatten(2)  # (M, K, P)
        index = batch.index_maps[masked, ::LOSS_STRIDE, ::LOSS_STRIDE].flatten(1).long()  # (M, P)
        valid = batch.valid[masked]
        known = index != UNLABELLED
        target = batch.covers[masked].gather(2, index.unsqueeze(1).expand(-1, valid.shape[1], -1))  # (M, K, P) bool
        found["pixels"] = pixel_term(fine, target, known, valid)
        found["dice"] = dice_term(fine, target, known, batch.present[masked])
        found["competition"] = competition_term(fine, target, known, valid)
        if presence is not None:
            found["presence"] = presence_term(presence[masked], batch.present[masked], valid)
    whole = (~batch.masked).nonzero()[:, 0]
    if len(whole):
        maps, present, valid = logits[whole].flatten(2), batch.present[whole], batch.valid[whole]
        found["image"] = presence_term(top_score(maps, terms.top_share), present, valid)
        if presence is not None:
            found["image"] = found["image"] + presence_term(presence[whole], present, valid)
        found["spread"] = spread_term(maps, present, terms.largest_share)
    return found


def pixel_term(logits: Tensor, target: Tensor, known: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of maps (B,K,P) with masks (B,K,P) bool, over pixels known (B,P) and names valid (B,K)."""
    counts = known.unsqueeze(1) & valid.unsqueeze(2)
    losses = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def dice_term(logits: Tensor, target: Tensor, known: Tensor, present: Tensor) -> Tensor:
    """1 - Dice of maps (B,K,P) with masks (B,K,P), mean over present names (B,K), over known pixels (B,P)."""
    activation = logits.sigmoid() * known.unsqueeze(1)
    mask = (target & known.unsqueeze(1)).float()
    overlap, sizes = (activation * mask).sum(dim=2), (activation + mask).sum(dim=2)
    losses = 1 - (2 * overlap + 1) / (sizes + 1)
    counts = present & (mask.sum(dim=2) > 0)
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def competition_term(logits: Tensor, target: Tensor, known: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of each pixel's choice among all names and none, whose logit is 0.

        -log sum_right p,   p = softmax over [0, logits]

    A pixel of several names ("office chair", "chair") may give its weight to any of them; one of no name to none.
    """
    logits = logits.masked_fill(~valid.unsqueeze(2), -torch.inf)
    none = torch.zeros_like(logits[:, :1])
    target = target & valid.unsqueeze(2)
    right = torch.cat([~target.any(dim=1, keepdim=True), target], dim=1)
    every = torch.cat([none, logits], dim=1)
    losses = every.logsumexp(dim=1) - every.masked_fill(~right, -torch.inf).logsumexp(dim=1)
    return (losses * known).sum() / known.sum().clamp(min=1)


def presence_term(scores: Tensor, present: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of scores (B,K), present names together weighing as much as absent ones."""
    losses = F.binary_cross_entropy_with_logits(scores, present.float(), reduction="none")
    parts = [losses[mask].mean() for mask in (present, valid & ~present) if mask.any()]
    return sum(parts) / len(parts) if parts else 0 * scores.sum()


def top_score(maps: Tensor, share: float) -> Tensor:
    """Return the mean (B,K) of the `share` largest values of maps (B,K,P): multiple-instance learning."""
    return maps.topk(max(1, round(share * maps.shape[2])), dim=2).values.mean(dim=2)


def spread_term(maps: Tensor, present: Tensor, largest: float) -> Tensor:
    """Ask that maps (B,K,P) of present names (B,K) cover at most a share `largest` of the image."""
    excess = (maps.sigmoid().mean(dim=2) - largest).clamp(min=0)
    return (excess * present).sum() / present.sum().clamp(min=1)
