"""The optimiser of the pre-training programs: Muon for the matrices of transformer blocks, AdamW for the rest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.loop.schedule import parameter_groups

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steep at 0, so that 5 steps lift small singular values


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


class Muon(torch.optim.Optimizer):
    """Momentum with an orthogonalised update (Jordan et al. 2024), scaled to AdamW's step size (arXiv 2502.16982).

    torch.optim.Muon does the same in bfloat16, which CPUs without matrix units for it emulate a hundred times slower.
    """

    def __init__(self, params: list[Tensor], lr: float, weight_decay: float = 0.1, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalize(p.grad.lerp(buffer, group["momentum"]))  # Nesterov's momentum
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


class MuonAdamW:
    """Step Muon and AdamW as one, with one learning rate.

    Embeddings, projections into and out of the joint space, norms and biases stay with AdamW, as Muon's authors advise.
    """

    def __init__(self, module: nn.Module, blocks: list[nn.Module], rate: float, weight_decay: float):
        matrices = [p for block in blocks for p in block.parameters() if p.ndim == 2 and p.requires_grad]
        inside = {id(p) for p in matrices}
        rest = [
            {**group, "params": [p for p in group["params"] if id(p) not in inside]}
            for group in parameter_groups(module, weight_decay)
        ]
        self.muon = Muon(matrices, rate, weight_decay)
        self.adamw = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), fused=True)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of every parameter."""
        for group in [*self.muon.param_groups, *self.adamw.param_groups]:
            group["lr"] = rate

    def zero_grad(self) -> None:
        for optimizer in (self.muon, self.adamw):
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        for optimizer in (self.muon, self.adamw):
            optimizer.step()

    def state_dict(self) -> dict:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
