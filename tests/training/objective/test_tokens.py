import torch

from training.datasets.mask_batches import COMPETING
from training.objective.tokens import TokenLoss
from training.scenes.scenes import BASE_NOUNS, COLORS


def test_token_loss_is_least_where_tokens_match_the_text_of_their_noun_and_colour():
    torch.manual_seed(0)
    nouns, colors = torch.randn(len(COMPETING), 32), torch.randn(len(COLORS), 32)
    loss = TokenLoss(32, nouns, colors, len(BASE_NOUNS))
    with torch.no_grad():
        loss.project.weight.copy_(torch.eye(32))
        loss.project.bias.zero_()
    right = (loss.nouns[:, 3] + loss.colors[:, 2]).expand(1, 2, 32)
    at = torch.tensor
    assert loss(right, at([[3, -1]]), at([[2, -1]])) < loss(right, at([[3, -1]]), at([[5, -1]]))
    assert loss(right, at([[3, -1]]), at([[2, -1]])) < loss(right, at([[4, -1]]), at([[2, -1]])) / 2
    uncolored = loss(right, at([[3, 30]]), at([[-1, -1]]))
    assert torch.isfinite(uncolored)
