"""Every pixel belongs to a label that the caption names, no matter which: learning with partial labels."""

from __future__ import annotations

import torch
from torch import Tensor


def named_loss(logits: Tensor, present: Tensor, valid: Tensor) -> Tensor:
    """Ask that one of the caption's labels, whichever, wins each pixel from the absent ones.

        -log sum_present p,   p = softmax of the logits over present and absent labels

    The gradient follows the posterior among the present labels, as expectation-maximisation does: a label that a
    decoder hardly knows needs only to be ahead of the caption's others to win from what is absent.

    Args:
        logits: (B,N,H,W).
        present: (B,N) bool, labels of the caption.
        valid: (B,N) bool, False for padding.

    Returns:
        A scalar: the mean over pixels of images that have labels of both kinds, 0 where none has.

    Source: Jin and Ghahramani, "Learning with Multiple Labels", NIPS 2002; on pixels: Papandreou et al.,
    arXiv 1502.02734.
    """
    among = [logits.masked_fill(~mask[:, :, None, None], -torch.inf) for mask in (valid, present)]
    both = present.any(dim=1) & (valid & ~present).any(dim=1)
    if not both.any():
        return 0 * logits.sum()
    everything, named = (scores[both].logsumexp(dim=1) for scores in among)
    return (everything - named).mean()
