"""Non-learnable prototypical regularisation: foreground vectors stay near what the frozen CLIP finds in the image.

Source: Zhang et al., "Uncovering Prototypical Knowledge for Weakly Open-Vocabulary Semantic Segmentation" (PGSeg),
arXiv 2310.19001. There prototypes guide learned group tokens; here they guide the foreground vectors of SynSeg.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from training.objective.processes import gathered

LARGEST_SCALE = 100.0  # of the contrast (PGSeg and CLIP)


@dataclass
class NPRConfig:
    """Settings of prototypical regularisation.

    Args:
        prototypes: most prototypes of an image, 2 or more. An image with N labels has N + 1: one is for what no label
            names.
        iterations: iterations of expectation-maximisation (PGSeg).
        momentum: share of the starting prototypes that a batch keeps, from 0 to below 1 (PGSeg).
        concentration: how sharply unit tokens choose among prototypes, above 0 (ours; PGSeg leaves it to the length of
            the tokens).
        least: similarity from which a pair counts, from 0 for the least to 1 for the most similar vector (PGSeg).
        text: weight of the prototypes of the caption's labels beside those of the image (PGSeg's code).
    """

    prototypes: int = 16
    iterations: int = 10
    momentum: float = 0.9
    concentration: float = 20.0
    least: float = 0.1
    text: float = 0.1

    def __post_init__(self) -> None:
        if self.prototypes < 2 or self.iterations < 1 or self.concentration <= 0:
            raise ValueError(
                f"prototypes {self.prototypes}, iterations {self.iterations}, concentration {self.concentration}: "
                "expected at least 2, at least 1, and above 0"
            )
        if not 0 <= self.momentum < 1 or not 0 <= self.least < 1 or self.text < 0:
            raise ValueError(
                f"momentum {self.momentum}, least {self.least}, text {self.text}: expected 0 to below 1 twice, and 0 up"
            )


def em_prototypes(
    tokens: Tensor, initial: Tensor, iterations: int, valid: Tensor | None = None, used: Tensor | None = None
) -> Tensor:
    """Cluster tokens around unit prototypes by expectation-maximisation, without gradient.

        z = softmax_k(x mu^T),   z /= sum_tokens z + 1e-6,   mu = z^T x / (|z^T x| + 1e-6)

    A step never lowers sum_x log sum_k exp(x mu_k): this is exact EM of von Mises-Fisher distributions of equal weight.

    Args:
        tokens: (B,T,D); their length is the concentration.
        initial: (B,K,D) vectors of length 1.
        iterations: of expectation-maximisation.
        valid: (B,T) bool, tokens that count; all of them by default.
        used: (B,K) bool, prototypes that an image has, at least one each; all of them by default.

    Returns:
        (B,K,D), zeros where unused.

    Source: PGSeg, module NPR.
    """
    with torch.no_grad():
        prototypes = initial
        for _ in range(iterations):
            scores = tokens @ prototypes.mT  # (B, T, K)
            if used is not None:
                scores = scores.masked_fill(~used.unsqueeze(1), -torch.inf)
            share = scores.softmax(dim=2)
            if valid is not None:
                share = share * valid.unsqueeze(2)
            share = share / (share.sum(dim=1, keepdim=True) + 1e-6)
            prototypes = share.mT @ tokens
            prototypes = prototypes / (prototypes.norm(dim=2, keepdim=True) + 1e-6)
        return prototypes


def match(similarity: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Assign columns to rows one to one so that the summed similarity is the largest (the Hungarian method).

    Args:
        similarity: (B,N,K).
        rows: (B,N) bool, which rows are there.
        columns: (B,K) bool, which columns are there.

    Returns:
        The columns (B,N) int64, and which rows have one (B,N) bool: all, unless there are fewer columns.
    """
    chosen, found = torch.zeros_like(rows, dtype=torch.long), torch.zeros_like(rows)
    for image, scores in enumerate(similarity.detach().cpu()):
        there = [mask[image].nonzero()[:, 0].cpu() for mask in (rows, columns)]
        pairs = linear_sum_assignment(scores[there[0]][:, there[1]].numpy(), maximize=True)
        row, column = (places[torch.from_numpy(index)] for places, index in zip(there, pairs, strict=True))
        chosen[image, row], found[image, row] = column.to(chosen.device), True
    return chosen, found


def prototype_loss(vectors: Tensor, prototypes: Tensor, paired: Tensor, scale: Tensor, least: float = 0.1) -> Tensor:
    """Tell each vector's own prototype from the others of the image, and the reverse: symmetric cross-entropy.

    A pair counts where its similarity is above `least`. The similarity is scaled: 0 for the least and 1 for the largest
    among the image's vectors to the same prototype.

    Args:
        vectors: (B,N,D).
        prototypes: (B,N,D), the i-th belongs to the i-th vector.
        paired: (B,N) bool, where it does.
        scale: () of the contrast.
        least: scaled similarity from which a pair counts.

    Returns:
        A scalar: the sum of both directions' means over the pairs; 0 where no pair counts, as in images with one label.

    Source: PGSeg's contrast. PGSeg's code compares every pair with the first prototype's similarities; ours takes the
    pair's own.
    """
    similarity = F.normalize(vectors, dim=2) @ F.normalize(prototypes.detach(), dim=2).mT  # (B, N, N)
    there = paired.unsqueeze(1) & paired.unsqueeze(2)
    with torch.no_grad():
        low = similarity.masked_fill(~there, torch.inf).amin(dim=1)
        high = similarity.masked_fill(~there, -torch.inf).amax(dim=1)
        share = (similarity.diagonal(dim1=1, dim2=2) - low) / (high - low + 1e-6)
        keep = paired & (share > least)
    if not keep.any():
        return 0 * (similarity * there).sum() * scale
    logits = (scale * similarity).masked_fill(~there, -torch.inf)
    own = torch.arange(vectors.shape[1], device=vectors.device).expand_as(keep)[keep]
    return F.cross_entropy(logits[keep], own) + F.cross_entropy(logits.mT[keep], own)


class NPR(nn.Module):
    """Regularise foreground vectors by prototypes of an image's frozen tokens and of its labels' embeddings.

    Only the foreground vectors and the scale of the contrast get a gradient. `initial` (prototypes,D), where
    expectation-maximisation starts, is a buffer that checkpoints keep; while training it follows the prototypes found.
    Labels start from their own embeddings (ours), so that those of one meaning flow together.
    """

    initial: Tensor

    def __init__(self, width: int, config: NPRConfig):
        """Draw the prototypes that expectation-maximisation starts from.

        Args:
            width: D of the joint space.
            config: settings of the term.
        """
        super().__init__()
        self.config = config
        self.register_buffer("initial", F.normalize(torch.randn(config.prototypes, width), dim=1))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # where CLIP starts

    def forward(self, foreground: Tensor, tokens: Tensor, text: Tensor, present: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            foreground: (B,N,D) synergy vectors.
            tokens: (B,P,D) frozen dense embeddings.
            text: (B,N,D) frozen label embeddings.
            present: (B,N) bool, labels of the caption.

        Returns:
            A scalar.
        """
        config, count = self.config, self.config.prototypes
        with torch.autocast(foreground.device.type, enabled=False):
            foreground, tokens, text = foreground.float(), tokens.float(), text.float()
            tokens, text = F.normalize(tokens, dim=2), F.normalize(text, dim=2)
            number = present.sum(dim=1, keepdim=True) + 1
            used = torch.arange(count, device=present.device) < number  # (B, K)
            initial = self.initial.expand(len(tokens), -1, -1)
            image = em_prototypes(config.concentration * tokens, initial, config.iterations, used=used)
            loss = self._contrast(foreground, image, present, used)
            if config.text:
                label = em_prototypes(config.concentration * text, text, config.iterations, present, _any(present))
                loss = loss + config.text * self._contrast(foreground, label, present, present)
            if self.training:
                self._follow(image, used)
        return loss

    def _contrast(self, foreground: Tensor, prototypes: Tensor, present: Tensor, used: Tensor) -> Tensor:
        similarity = F.normalize(foreground.detach(), dim=2) @ F.normalize(prototypes, dim=2).mT
        chosen, paired = match(similarity, present, used)
        matched = prototypes.gather(1, chosen.unsqueeze(2).expand(-1, -1, prototypes.shape[2]))
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        return prototype_loss(foreground, matched, paired, scale, self.config.least)

    @torch.no_grad()
    def _follow(self, prototypes: Tensor, used: Tensor) -> None:
        """Move where expectation-maximisation starts towards the mean of what it found, over all processes."""
        found = gathered(((prototypes * used.unsqueeze(2)).sum(dim=0).cpu(), used.sum(dim=0).cpu()))
        total, count = (sum(parts).to(self.initial.device) for parts in zip(*found, strict=True))
        mean = total / count.clamp(min=1).unsqueeze(1)
        moved = F.normalize(self.config.momentum * self.initial + (1 - self.config.momentum) * mean, dim=1)
        self.initial.copy_(torch.where(count.unsqueeze(1) > 0, moved, self.initial))


def _any(present: Tensor) -> Tensor:
    """Let images without a label have one prototype that nobody looks at: no softmax over nothing."""
    empty = ~present.any(dim=1, keepdim=True)
    return present | (empty & (torch.arange(present.shape[1], device=present.device) == 0))
