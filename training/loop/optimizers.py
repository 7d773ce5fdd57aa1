"""AdamW, and Muon for the matrices of transformer blocks with AdamW for the rest: both as one optimizer of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.loop.config import TrainerConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, so that 5 steps lift small singular values


def parameter_groups(
    module: nn.Module, weight_decay: float, rate: float, blocks: Iterable[nn.Module] = ()
) -> list[dict[str, Any]]:
    """Split trainable parameters: weight decay for matrices, none for biases, norms and embeddings of one vector.

    Args:
        module: whose parameters are grouped.
        weight_decay: of matrices.
        rate: the highest learning rate of all of them; a group keeps it as "peak".
        blocks: transformer blocks of the module. Their matrices become a group that Muon trains.

    Returns:
        Two groups of parameters, or three.
    """
    common = {"lr": rate, "peak": rate}
    inside = [p for block in blocks for p in block.parameters() if p.ndim == 2 and p.requires_grad]
    known = {id(p) for p in inside}
    trained = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay, **common},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0, **common},
    ]
    if inside:
        groups.append({"params": inside, "weight_decay": weight_decay, "muon": True, **common})
    return groups


def build_optimizer(groups: list[dict[str, Any]], config: TrainerConfig) -> torch.optim.Optimizer:
    """Build the optimizer that a config asks for.

    Raises:
        ValueError: it asks for Muon, and no group is for it.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=tuple(config.betas))
    if not any(group.get("muon") for group in groups):
        raise ValueError("optimizer is 'muon', but the objective has no transformer blocks: choose 'adamw'")
    return MuonAdamW(groups, tuple(config.betas))


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of a matrix towards 1, each to between about 0.7 and 1.2 (Newton-Schulz iteration)."""
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class MuonAdamW(torch.optim.AdamW):
    """Step Muon on the groups that are marked "muon" and AdamW on the others.

    Muon is momentum with an orthogonalised update (Jordan et al. 2024), scaled to AdamW's step size (arXiv 2502.16982),
    so that both take one learning rate. Embeddings, projections into and out of the joint space, norms and biases stay
    with AdamW, as Muon's authors advise. torch.optim.Muon computes in bfloat16, which a CPU without matrix units for it
    emulates a hundred times slower; here only GPUs do.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], momentum: float = 0.95):
        """Take groups of `parameter_groups`.

        Args:
            groups: of parameters; those for Muon hold matrices.
            betas: of AdamW.
            momentum: of Muon.
        """
        groups = [{"muon": False, "momentum": momentum, **group} for group in groups if group["params"]]
        super().__init__(groups, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step of both."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for p in group["params"] if group["muon"] else ():
                if p.grad is not None:
                    self._muon_step(p, group)

    def _muon_step(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:  # by AdamW's names, so that it loads them as it does its own
            state["step"], state["exp_avg"] = torch.zeros((), device=p.device), torch.zeros_like(p)
        state["step"] += 1
        state["exp_avg"].lerp_(p.grad, 1 - group["momentum"])
        update = orthogonalize(p.grad.lerp(state["exp_avg"], group["momentum"]))  # Nesterov's momentum
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)
