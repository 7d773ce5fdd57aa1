"""What training on photographs minimises: terms of masks where there are masks, of whole images where there are names.

With masks a pixel knows which of the sample's names are true of it. Captions and names of whole images say only that a
name is somewhere in the image, or nowhere. Each term has a file of its own here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synseg_model.losses import MCCLLoss
from synseg_model.network.synseg import SynSeg
from training.loop.config import TrainerConfig
from training.loop.optimizers import parameter_groups
from training.objective.batch import PhotoBatch
from training.objective.competition import flat_competition_loss
from training.objective.dice import dice_loss
from training.objective.index_maps import UNLABELLED
from training.objective.mccl import dense_mccl
from training.objective.pixel import pixel_loss
from training.objective.presence import score_loss, top_score
from training.objective.spread import spread_loss
from training.objective.statistics import activation_statistics
from training.objective.sums import weighted_sum
from training.objective.teacher import teacher_loss

LOSS_STRIDE = 2  # pixels of the input for one of the loss
TEACHER_MARGIN = 0.5  # see `teacher_loss`


@dataclass
class PhotoTerms:
    """Weights of the terms.

    Args:
        pixels: weight of the binary cross-entropy of every name at every labelled pixel.
        dice: weight of the overlap of each present name with its mask.
        competition: weight of a loss on labelled pixels: each chooses among the names and "none of them".
        presence: weight of a loss on crops with masks: whether each name is in the crop.
        image: weight of the same loss on images with captions or a name. It looks at the most active part of each map
            and at the decoder's own answer.
        spread: weight of a loss on images with captions: a name covers no more than `largest_share`.
        mccl: weight of the paper's MCCL on images with captions. It pools the dense embeddings that no label changes,
            over distinct pairs and with a clamp that keeps the gradient.
        teacher: weight of self-training on images with captions: a pixel takes the name of the caption that the
            averaged weights find most active there.
        top_share: share of a map that is its most active part, from 0 to 1.
        largest_share: largest share of an image that a name of its caption covers, from 0 to 1.
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
        """Choose what trains.

        Args:
            network: a convolutional model.
            terms: weights of the terms.
            backbone_rate: the backbone's learning rate as a share of the decoder's.
            frozen_backbone: train the decoder alone.
        """
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
        rate, decay = config.new_learning_rate, config.weight_decay
        blocks = self.network.decoder.blocks if config.optimizer == "muon" else ()
        groups = parameter_groups(self.trained["decoder"], decay, rate, blocks)
        groups += parameter_groups(self.trained["image"], decay, rate * self.backbone_rate)
        return [group for group in groups if group["params"]]

    def forward(self, batch: PhotoBatch, averaged: nn.Module) -> dict[str, Tensor]:
        """Compute the objective of a batch.

        Args:
            batch: crops and names.
            averaged: the averaged "image" and "decoder", which `teacher` learns from.

        Returns:
            Scalars, means over the images: "total"; every term; and the statistics that the trainer watches.
        """
        terms, weights = self.terms, asdict(self.terms)
        reduced = self.network.encode_image(batch.images)
        logits, presence = self.network.decoder.decode(reduced, batch.texts)
        whole = (~batch.masked).nonzero()[:, 0]
        target = self._teach(batch, whole, averaged) if terms.teacher and len(whole) else None
        with torch.autocast(batch.images.device.type, enabled=False):
            logits, presence = logits.float(), None if presence is None else presence.float()
            found = photo_terms(logits, presence, batch, terms)
            texts, present, valid = (values[whole] for values in (batch.texts, batch.present, batch.valid))
            if terms.mccl and len(whole):
                found["mccl"] = dense_mccl(self.mccl, logits[whole], reduced[1][whole].float(), texts.float(), present)
            if target is not None:
                found["teacher"] = teacher_loss(logits[whole], target, present, valid, TEACHER_MARGIN)
            losses = weighted_sum((name, weights[name], value) for name, value in found.items())
            shown = batch.masked[:, None] & batch.present
            if not shown.any():  # captions alone: their maps must not look as if they had collapsed
                shown = batch.present
            return losses | activation_statistics(logits.detach().sigmoid().flatten(2), shown)

    @torch.no_grad()
    def _teach(self, batch: PhotoBatch, rows: Tensor, averaged: nn.Module) -> Tensor:
        """Return the averaged network's logits (b,K,h,w) of some images of a batch."""
        reduced = averaged["decoder"].reduce(averaged["image"](batch.images[rows]))
        return averaged["decoder"](reduced, batch.texts[rows]).float()


def photo_terms(logits: Tensor, presence: Tensor | None, batch: PhotoBatch, terms: PhotoTerms) -> dict[str, Tensor]:
    """Compute the terms that need no averaged network and no dense embeddings.

    Args:
        logits: (B,K,h,w) maps.
        presence: (B,K) logits of whether a name is in the image; None of a decoder that does not say.
        batch: crops and names.
        terms: `top_share` and `largest_share`.

    Returns:
        Scalars by the names of `PhotoTerms`, 0 where a term has no image.
    """
    found = dict.fromkeys(("pixels", "dice", "competition", "presence", "image", "spread"), 0 * logits.sum())
    masked = batch.masked.nonzero()[:, 0]
    if len(masked):
        size = tuple(side // LOSS_STRIDE for side in batch.images.shape[2:])
        fine = F.interpolate(logits[masked], size=size, mode="bilinear", align_corners=False).flatten(2)  # (M, K, P)
        index = batch.index_maps[masked, ::LOSS_STRIDE, ::LOSS_STRIDE].flatten(1).long()  # (M, P)
        present, valid = batch.present[masked], batch.valid[masked]
        known = index != UNLABELLED
        target = batch.covers[masked].gather(2, index.unsqueeze(1).expand(-1, valid.shape[1], -1))  # (M, K, P) bool
        found["pixels"] = pixel_loss(fine, target, known, valid)
        found["dice"] = dice_loss(fine, target, known, present)
        found["competition"] = flat_competition_loss(fine, target, known, valid)
        if presence is not None:
            found["presence"] = score_loss(presence[masked], present, valid)
    whole = (~batch.masked).nonzero()[:, 0]
    if len(whole):
        maps, present, valid = logits[whole].flatten(2), batch.present[whole], batch.valid[whole]
        found["image"] = score_loss(top_score(maps, terms.top_share), present, valid)
        if presence is not None:
            found["image"] = found["image"] + score_loss(presence[whole], present, valid)
        found["spread"] = spread_loss(maps, present, terms.largest_share)
    return found
