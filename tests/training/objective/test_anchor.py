import torch

from training.objective.anchor import anchor_loss


def test_anchor_pulls_each_map_to_where_clip_sees_its_label():
    text = torch.eye(2).unsqueeze(0)
    dense = torch.cat([torch.eye(2)[:1].repeat(4, 1), torch.eye(2)[1:].repeat(4, 1)]).unsqueeze(0)
    right = torch.tensor([[[9.0] * 4 + [-9.0] * 4, [-9.0] * 4 + [9.0] * 4]])
    present = torch.ones(1, 2, dtype=torch.bool)
    assert anchor_loss(right, dense, text, present, 0.05) < 1e-3
    assert anchor_loss(right.flip(1), dense, text, present, 0.05) > 5
