from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from training.objective.npr import NPR, NPRConfig, em_prototypes, match, prototype_loss


def unit(*shape, seed=0, **options):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options), dim=-1)


@pytest.fixture
def tokens():
    """Two images of 60 tokens around four directions each, of length 10."""
    centers = unit(2, 4, 8, dtype=torch.float64)
    noise = 0.3 * torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 10 * F.normalize(centers.repeat(1, 15, 1) + noise, dim=2), centers


def likelihood(tokens, prototypes):
    return (tokens @ prototypes.mT).logsumexp(dim=2).sum(dim=1)


def test_no_step_of_em_lowers_the_likelihood(tokens):
    tokens, _ = tokens
    prototypes = unit(2, 5, 8, seed=2, dtype=torch.float64)
    values = [likelihood(tokens, prototypes)]
    for _ in range(25):
        prototypes = em_prototypes(tokens, prototypes, 1)
        values.append(likelihood(tokens, prototypes))
    steps = torch.stack(values).diff(dim=0)
    # the 1e-6 that guards divisions by zero may shorten prototypes by about as much
    assert (steps > -1e-4).all()
    assert (steps[0] > 1).all(), "the first step must gain something"


def test_one_step_of_em_is_the_published_formula_written_with_loops(tokens):
    tokens, _ = tokens
    initial = unit(2, 3, 8, seed=3, dtype=torch.float64)
    expected = torch.zeros_like(initial)
    for image in range(2):
        for k in range(3):
            total = torch.zeros(8, dtype=torch.float64)
            for x in tokens[image]:
                scores = [torch.exp(x @ mu) for mu in initial[image]]
                total += scores[k] / sum(scores) * x
            expected[image, k] = total / total.norm()
    torch.testing.assert_close(em_prototypes(tokens, initial, 1), expected, atol=1e-6, rtol=0.0)


def test_em_finds_the_directions_that_the_tokens_were_made_of(tokens):
    tokens, centers = tokens
    start = F.normalize(centers + 0.3 * unit(2, 4, 8, seed=4, dtype=torch.float64), dim=2)
    found = em_prototypes(tokens, start, 10)
    assert ((found * centers).sum(dim=2) > 0.95).all()
    assert (found * centers).sum(dim=2).mean() > (start * centers).sum(dim=2).mean() + 0.01


def test_tokens_and_prototypes_that_are_not_there_change_nothing(tokens):
    tokens, _ = tokens
    initial = unit(2, 3, 8, seed=5, dtype=torch.float64)
    valid = torch.ones(2, 60, dtype=torch.bool)
    valid[:, 50:] = False
    used = torch.tensor([[True, True, False]] * 2)
    masked = em_prototypes(tokens, initial, 4, valid, used)
    torch.testing.assert_close(masked[:, :2], em_prototypes(tokens[:, :50], initial[:, :2], 4))
    assert (masked[:, 2] == 0).all()


@pytest.mark.parametrize("columns", [3, 4, 6])
def test_matching_is_as_good_as_the_best_of_all_permutations(columns):
    generator = torch.Generator().manual_seed(columns)
    similarity = torch.randn(5, 4, columns, generator=generator)
    chosen, found = match(similarity, torch.ones(5, 4, dtype=torch.bool), torch.ones(5, columns, dtype=torch.bool))
    size = min(4, columns)
    assert (found.sum(dim=1) == size).all()
    for scores, place, there in zip(similarity, chosen, found, strict=True):
        rows = there.nonzero()[:, 0]
        assert len(set(place[rows].tolist())) == size
        best = max(
            sum(scores[row, column] for row, column in zip(some, order, strict=True))
            for some in permutations(range(4), size)
            for order in permutations(range(columns), size)
        )
        torch.testing.assert_close(scores[rows, place[rows]].sum(), best)


def test_matching_uses_only_what_is_there():
    similarity = torch.full((2, 3, 4), 0.5)
    similarity[:, :, 3] = 9.0  # the best by far, and not there
    rows = torch.tensor([[True, False, True], [False, False, False]])
    columns = torch.tensor([[True, False, True, False]] * 2)
    chosen, found = match(similarity, rows, columns)
    assert found.equal(rows)
    assert set(chosen[0, [0, 2]].tolist()) == {0, 2}


def test_loss_is_cross_entropy_in_both_directions():
    vectors, prototypes = unit(1, 3, 8, seed=6), unit(1, 3, 8, seed=7)
    prototypes = F.normalize(prototypes + 2 * vectors, dim=2)  # every pair is the best of its row: all count
    scores = 7 * (vectors[0] @ prototypes[0].T)
    both = [-scores.log_softmax(dim).diagonal().mean() for dim in (0, 1)]
    paired = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(prototype_loss(vectors, prototypes, paired, torch.tensor(7.0)), sum(both))


def test_padding_beside_the_pairs_changes_no_loss():
    vectors, prototypes = unit(1, 4, 8, seed=8), unit(1, 4, 8, seed=9)
    paired = torch.tensor([[True, True, True, False]])
    padded = prototype_loss(vectors, prototypes, paired, torch.tensor(5.0), 0.0)
    alone = prototype_loss(vectors[:, :3], prototypes[:, :3], paired[:, :3], torch.tensor(5.0), 0.0)
    torch.testing.assert_close(padded, alone)


def test_pairs_that_are_hardly_alike_do_not_count():
    # similarities to prototype 0: 1, 0, 0.8; to prototype 1: 0.05, 0, 1, so pair 1 is the least alike of its prototype
    vectors = torch.tensor([[[1.0, 0.05, 0.0], [0.0, 0.0, 1.0], [0.8, 1.0, 0.0]]], requires_grad=True)
    prototypes = torch.eye(3)[None, [0, 1, 1]]
    paired = torch.ones(1, 3, dtype=torch.bool)
    scores = F.normalize(vectors, dim=2)[0] @ prototypes[0].T
    kept = torch.tensor([True, False, True])
    own = torch.tensor([0, 2])
    expected = F.cross_entropy(scores[kept], own) + F.cross_entropy(scores.T[kept], own)
    torch.testing.assert_close(prototype_loss(vectors, prototypes, paired, torch.tensor(1.0)), expected)


def test_an_image_with_one_label_has_no_loss_but_a_gradient_of_zero():
    vectors = unit(1, 1, 8).requires_grad_()
    loss = prototype_loss(vectors, unit(1, 1, 8, seed=1), torch.ones(1, 1, dtype=torch.bool), torch.tensor(5.0))
    loss.backward()
    assert loss.item() == 0 and (vectors.grad == 0).all()


@pytest.fixture
def batch():
    """Three images with 2, 3 and 0 labels."""
    present = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    values = {"foreground": unit(3, 3, 16, seed=1), "tokens": unit(3, 30, 16, seed=2), "text": unit(3, 3, 16, seed=3)}
    return values, present


def test_only_foreground_vectors_of_the_caption_and_the_scale_learn(batch):
    torch.manual_seed(0)
    values, present = batch
    npr = NPR(16, NPRConfig(least=0.0))
    values = {name: value.requires_grad_() for name, value in values.items()}
    npr(**values, present=present).backward()
    assert values["tokens"].grad is None and values["text"].grad is None
    moved = values["foreground"].grad.abs().sum(dim=2) > 0
    assert not moved[~present].any() and moved[present].any()
    assert [name for name, p in npr.named_parameters() if p.grad is not None and p.grad != 0] == ["log_scale"]


def test_the_start_follows_what_was_found_only_while_training(batch):
    torch.manual_seed(0)
    values, present = batch
    npr = NPR(16, NPRConfig(momentum=0.5, concentration=10.0))
    before = npr.initial.clone()
    npr.eval()(**values, present=present)
    assert npr.initial.equal(before)
    npr.train()(**values, present=present)
    used = torch.arange(16) < present.sum(dim=1, keepdim=True) + 1
    found = em_prototypes(10 * values["tokens"], before.expand(3, -1, -1), 10, used=used)
    expected = before.clone()
    for k in range(4):  # 3, 4 and 1 prototypes
        expected[k] = F.normalize(0.5 * before[k] + 0.5 * found[used[:, k], k].mean(dim=0), dim=0)
    torch.testing.assert_close(npr.initial, expected)
    assert "initial" in npr.state_dict()


def test_more_labels_than_prototypes_leave_some_without_a_pair(batch):
    torch.manual_seed(0)
    values, present = batch
    loss = NPR(16, NPRConfig(prototypes=2))(**values, present=present)
    assert torch.isfinite(loss) and loss > 0


def test_descending_the_loss_moves_foregrounds_to_their_prototypes():
    torch.manual_seed(0)
    tokens = F.normalize(torch.eye(16)[:3].repeat_interleave(10, 0) + 0.02 * torch.randn(30, 16), dim=1)[None]
    npr = NPR(16, NPRConfig(text=0.0)).eval()
    npr.initial[:3] = torch.eye(16)[:3]
    foreground = F.normalize(torch.eye(16)[:2] + 0.6, dim=1)[None].requires_grad_()
    present = torch.ones(1, 2, dtype=torch.bool)
    optimizer = torch.optim.SGD([foreground], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        npr(foreground, tokens, foreground.detach(), present).backward()
        optimizer.step()
    assert (F.normalize(foreground, dim=2)[0] @ torch.eye(16)[:2].T).argmax(dim=1).tolist() == [0, 1]
    assert F.cosine_similarity(foreground[0, 0], foreground[0, 1], dim=0) < 0.7  # at first 0.87


@pytest.mark.parametrize("values", [{"prototypes": 1}, {"iterations": 0}, {"momentum": 1.0}, {"least": -0.1}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        NPRConfig(**values)
