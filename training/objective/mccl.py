"""Multi-Category Contrastive Learning on the vectors that activation maps pool from features.

The terms themselves are in `synseg_model.losses`, and how maps pool features is in `synseg_model.synergy`. Here is what
those features are: FiLM's output behind a projector (the paper), or dense embeddings that no training changes (ours).
"""

from __future__ import annotations

from torch import Tensor, nn

from synseg_model.losses import MCCLLoss
from synseg_model.synergy import pool_to_tokens, synergy_features


class Projector(nn.Conv2d):
    """Bring features of every label to the dimension of text embeddings, by a 1x1 convolution.

    Source: SynSeg, arXiv 2508.06115 v2, section 3.2. The paper does not publish the shape of the projector.
    """

    def __init__(self, width: int, text_width: int):
        """Draw random weights.

        Args:
            width: D of the features.
            text_width: C of the text embeddings.
        """
        super().__init__(width, text_width, 1)

    def forward(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Project features (B,N,P,D) of P = rows * columns tokens; returns (B,N,P,C)."""
        batch, labels = features.shape[:2]
        images = features.flatten(0, 1).transpose(1, 2).unflatten(2, grid)  # (B*N, D, h, w)
        return super().forward(images).flatten(2).transpose(1, 2).unflatten(0, (batch, labels))


def dense_mccl(loss: MCCLLoss, logits: Tensor, dense: Tensor, text: Tensor, present: Tensor) -> Tensor:
    """Compute MCCL on dense embeddings, of images that have at least two labels.

    Args:
        loss: the terms with their weights.
        logits: (B,N,H,W) maps.
        dense: (B,h,w,C) embeddings of tokens in the space of texts.
        text: (B,N,C) frozen label embeddings.
        present: (B,N) bool, labels that are in the image.

    Returns:
        A scalar, the mean over images; 0 where no image has two labels.
    """
    activation = pool_to_tokens(logits.sigmoid(), dense.shape[1:3])
    foreground, background = synergy_features(activation, dense.flatten(1, 2).unsqueeze(1))
    several = present.sum(dim=1, keepdim=True) > 1
    return loss(foreground, background, text, present & several)["total"]
