"""Multi-Category Contrastive Learning: one pure function per term of the loss, and a small module.

Source: SynSeg, arXiv 2508.06115 v2, equations 3 to 7. All cosine similarities are computed in float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "MCCLLoss",
    "align_loss",
    "background_loss",
    "clamp_similarity",
    "contrast_loss",
    "cosine_matrix",
    "pair_mask",
    "separation_loss",
]

BOUNDS = (0.005, 0.995)


def clamp_similarity(similarity: Tensor, bounds: tuple[float, float] = BOUNDS, mode: str = "hard") -> Tensor:
    """Keep cosine similarities inside bounds, so that their logarithms are finite.

    Args:
        similarity: cosines of any shape, in [-1, 1].
        bounds: the lowest and the highest similarity; by default the paper's.
        mode: "hard" is the paper's: no gradient outside the bounds. "straight-through" (ours) has the same values and
            passes the gradient on, so that a pair below the lower bound can still learn.

    Raises:
        ValueError: for another mode.
    """
    clamped = similarity.clamp(*bounds)
    if mode == "hard":
        return clamped
    if mode == "straight-through":
        return similarity + (clamped - similarity).detach()
    raise ValueError(f"clamp {mode!r}: expected 'hard' or 'straight-through'")


def cosine_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Compute the cosine similarities of all pairs of vectors.

    Args:
        a: (B,N,D).
        b: (B,M,D).

    Returns:
        (B,N,M) in [-1, 1].
    """
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT


def align_loss(similarity: Tensor, valid: Tensor) -> Tensor:
    """Compute the alignment loss of each image: a label's foreground points where its text does.

        L_align = -(1/N) Σ_i log sim(f_i, t_i)

    Args:
        similarity: (B,N) clamped cosines of foreground i and text i.
        valid: (B,N) bool, False for padding.

    Returns:
        (B,), 0 for an image without labels.
    """
    return _mean_over(-similarity.log(), valid)


def contrast_loss(similarity: Tensor, valid: Tensor) -> Tensor:
    """Compute the contrast loss of each image: a label's foreground differs from its background.

        L_cont = -(1/N) Σ_i log(1 - sim(f_i, b_i))

    Args:
        similarity: (B,N) clamped cosines of foreground i and background i.
        valid: (B,N) bool, False for padding.

    Returns:
        (B,), 0 for an image without labels.
    """
    return _mean_over(-torch.log1p(-similarity), valid)


def background_loss(similarity: Tensor, pairs: Tensor) -> Tensor:
    """Compute the background loss of each image: the backgrounds of all labels are alike.

        L_back = -(1/N²) Σ_jk log sim(b_j, b_k)

    Args:
        similarity: (B,N,N) clamped cosines of backgrounds j and k.
        pairs: (B,N,N) bool, the ordered pairs that count.

    Returns:
        (B,), 0 for an image without pairs.
    """
    return _mean_over(-similarity.log(), pairs)


def separation_loss(similarity: Tensor, pairs: Tensor) -> Tensor:
    """Compute the separation loss of each image: the foregrounds of different labels differ.

        L_sep = -(1/N²) Σ_jk log(1 - sim(f_j, f_k))

    A diagonal that counts adds the constant -log(1 - 0.995) / N = 5.298 / N, which has no gradient.

    Args:
        similarity: (B,N,N) clamped cosines of foregrounds j and k.
        pairs: (B,N,N) bool, the ordered pairs that count.

    Returns:
        (B,), 0 for an image without pairs.
    """
    return _mean_over(-torch.log1p(-similarity), pairs)


def _mean_over(values: Tensor, keep: Tensor) -> Tensor:
    """Average the kept values over all dimensions except the first; 0 where none is kept."""
    values, keep = values.flatten(1), keep.flatten(1)
    return torch.where(keep, values, 0).sum(dim=1) / keep.sum(dim=1).clamp(min=1)


def pair_mask(valid: Tensor, pairs: str) -> Tensor:
    """Mark the ordered pairs of labels that count.

    Args:
        valid: (B,N) bool, False for padding.
        pairs: "all" (paper), or "distinct" (ours), which leaves out the diagonal.

    Returns:
        (B,N,N) bool.

    Raises:
        ValueError: for another choice of pairs.
    """
    mask = valid.unsqueeze(1) & valid.unsqueeze(2)
    if pairs == "all":
        return mask
    if pairs == "distinct":
        return mask & ~torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    raise ValueError(f"pairs {pairs!r}: expected 'all' or 'distinct'")


class MCCLLoss(nn.Module):
    """Compute the loss of Multi-Category Contrastive Learning.

        L = λ1 L_align + λ2 L_cont + λ3 L_back + λ4 L_sep

    With one label in an image, neither pair term trains anything: keep images with at least two labels.

    Source: SynSeg, arXiv 2508.06115 v2, equations 3 to 7.

    Args:
        weights: λ1 to λ4, each 0 or more. The paper does not publish them; 1 each is ours.
        bounds: the lowest and the highest cosine similarity, between 0 and 1 (paper).
        pairs: "all" (paper) or "distinct" (ours), see `pair_mask`.
        clamp: "hard" (paper) or "straight-through" (ours), see `clamp_similarity`.

    Raises:
        ValueError: for a setting outside these ranges.

    Example:
        >>> import torch
        >>> from synseg_model.losses import MCCLLoss
        >>> generator = torch.Generator().manual_seed(0)
        >>> foreground, background, text = torch.randn(3, 2, 4, 512, generator=generator)  # B=2 images, N=4 labels
        >>> valid = torch.tensor([[True, True, True, True], [True, True, False, False]])  # the second image has two
        >>> losses = MCCLLoss()(foreground, background, text, valid)
        >>> sorted(losses)
        ['align', 'back', 'cont', 'sep', 'total']
        >>> bool(losses["total"] > 0)
        True
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
        bounds: tuple[float, float] = BOUNDS,
        pairs: str = "all",
        clamp: str = "hard",
    ):
        super().__init__()
        if len(weights) != 4 or min(weights) < 0:
            raise ValueError(f"weights {weights}: expected four numbers, 0 or more")
        if not 0 < bounds[0] < bounds[1] < 1:
            raise ValueError(f"bounds {bounds}: expected 0 < lower < upper < 1")
        pair_mask(torch.ones(1, 1, dtype=torch.bool), pairs)
        clamp_similarity(torch.zeros(1), bounds, clamp)
        self.weights, self.bounds, self.pairs, self.clamp = tuple(weights), tuple(bounds), pairs, clamp

    def forward(self, foreground: Tensor, background: Tensor, text: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Compute the loss of a batch of images.

        Args:
            foreground: (B,N,D) foreground synergy vectors f.
            background: (B,N,D) background synergy vectors b.
            text: (B,N,D) frozen text embeddings t.
            valid: (B,N) bool, False for padding.

        Returns:
            The scalars "align", "cont", "back", "sep" and "total": means over the images that have a label.

        Raises:
            ValueError: for shapes that do not fit.
        """
        shape = foreground.shape
        if foreground.ndim != 3 or background.shape != shape or text.shape != shape or valid.shape != shape[:2]:
            raise ValueError(
                f"foreground {tuple(shape)}, background {tuple(background.shape)}, text {tuple(text.shape)}, "
                f"valid {tuple(valid.shape)}: expected three times (B,N,D), and (B,N)"
            )
        with torch.autocast(foreground.device.type, enabled=False):
            # Half precision would round cosines near the bounds onto them.
            foreground, background, text = (
                x if x.dtype == torch.float64 else x.float() for x in (foreground, background, text)
            )
            keep = pair_mask(valid, self.pairs)

            def similarity(a: Tensor, b: Tensor) -> Tensor:
                return clamp_similarity(cosine_matrix(a, b), self.bounds, self.clamp)

            def own(a: Tensor, b: Tensor) -> Tensor:
                return clamp_similarity(F.cosine_similarity(a, b, dim=-1), self.bounds, self.clamp)

            terms = {
                "align": align_loss(own(foreground, text), valid),
                "cont": contrast_loss(own(foreground, background), valid),
                "back": background_loss(similarity(background, background), keep),
                "sep": separation_loss(similarity(foreground, foreground), keep),
            }
            images = valid.any(dim=1)
            means = {name: (term * images).sum() / images.sum().clamp(min=1) for name, term in terms.items()}
        total = sum(weight * term for weight, term in zip(self.weights, means.values(), strict=True))
        return {**means, "total": total}
