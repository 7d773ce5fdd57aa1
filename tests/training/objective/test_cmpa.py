import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from training.objective.cmpa import CMPA, CMPAConfig, PrototypeBank, alignment_loss, noun_key


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_bank_holds_moving_averages_as_worked_out_by_hand():
    bank = PrototypeBank(2, 2, momentum=0.75)
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    bank.update([7], x, y)  # new: the vector itself
    assert bank.keys.tolist() == [7, 0] and bank.counts.tolist() == [1, 0]
    assert bank.image[0].tolist() == [1.0, 0.0] and bank.text[0].tolist() == [0.0, 1.0]
    bank.update([7, 7, 9], torch.cat([x, y, y]), torch.cat([y, y, x]))  # mean of x and y is (0.5, 0.5)
    assert bank.image.tolist() == [[0.75 + 0.25 * 0.5, 0.25 * 0.5], [0.0, 1.0]]
    assert bank.counts.tolist() == [3, 1] and bank.text[1].tolist() == [1.0, 0.0]
    bank.update([5], x, x)  # full: takes the place of 9, the rarest, with one more than its count
    assert bank.keys.tolist() == [7, 5] and bank.counts.tolist() == [3, 2]
    assert bank.image[1].tolist() == [1.0, 0.0]


def test_every_frequent_noun_is_in_the_bank_whatever_the_order():
    generator = torch.Generator().manual_seed(0)
    weights = 1 / torch.arange(1, 301, dtype=torch.float)  # of nouns, as Zipf says
    stream = (torch.multinomial(weights, 4_000, replacement=True, generator=generator) + 1).tolist()
    bank = PrototypeBank(40, 2, momentum=0.9)
    for start in range(0, len(stream), 16):
        part = stream[start : start + 16]
        bank.update(part, torch.ones(len(part), 2), torch.ones(len(part), 2))
    frequent = {noun for noun, count in Counter(stream).items() if count > len(stream) / 40}
    assert len(frequent) >= 5
    assert frequent <= set(bank.keys.tolist())
    assert len(set(bank.keys.tolist())) == 40 and bank.counts.sum() == len(stream)


def test_loss_is_cross_entropy_over_texts_and_over_image_prototypes():
    image, text = unit(3, 8, seed=1), unit(3, 8, seed=2)
    keys = torch.tensor([11, 12, 13])
    others = (torch.tensor([14]), unit(1, 8, seed=3), unit(1, 8, seed=4))
    total = 0.0
    for i in range(3):
        texts = [math.exp(float(image[i] @ t) / 0.5) for t in [*text, *others[2]]]
        images = [math.exp(float(text[i] @ v) / 0.5) for v in [*image, *others[1]]]
        total -= math.log(texts[i] / sum(texts)) + math.log(images[i] / sum(images))
    assert alignment_loss(image, text, keys, others, 0.5).item() == pytest.approx(total / 6, rel=1e-5)


def test_a_noun_in_two_images_or_in_the_bank_is_never_its_own_negative():
    image, text = unit(3, 8, seed=1), unit(3, 8, seed=2)
    text[2] = text[0]
    keys = torch.tensor([11, 12, 11])
    kept = unit(1, 8, seed=3)
    expected = 0.0
    for i in range(3):
        texts = [math.exp(float(image[i] @ t) / 0.5) for t in text[:2]]  # each noun once
        own = math.exp(float(text[i] @ image[i]) / 0.5)
        negatives = [image[0], image[2], kept[0]] if i == 1 else [image[1]]
        images = [own, *(math.exp(float(text[i] @ v) / 0.5) for v in negatives)]
        expected -= math.log(texts[i % 2] / sum(texts)) + math.log(own / sum(images))
    loss = alignment_loss(image, text, keys, (torch.tensor([11]), kept, text[:1]), 0.5)
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)


@pytest.fixture
def batch():
    present = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    return unit(2, 3, 8, seed=5), unit(2, 3, 8, seed=6), present, [["dog", "grass", "car"], ["cat"]]


def test_only_foreground_vectors_of_the_caption_learn(batch):
    foreground, text, present, labels = batch
    foreground.requires_grad_()
    text.requires_grad_()
    cmpa = CMPA(8, CMPAConfig())
    cmpa(foreground, text, present, labels)
    cmpa(foreground, text, present, labels).backward()  # the second time against a filled bank
    assert text.grad is None and not list(cmpa.parameters())
    assert ((foreground.grad.abs().sum(dim=2) > 0) == present).all()


def test_the_bank_takes_in_a_batch_after_its_loss_and_only_while_training(batch):
    cmpa = CMPA(8, CMPAConfig(bank=10, momentum=0.5)).eval()
    first = cmpa(*batch)
    assert not cmpa.bank.keys.any()
    torch.testing.assert_close(cmpa.train()(*batch), first)
    foreground, text, _, _ = batch
    place = cmpa.bank.keys.tolist().index(noun_key("grass"))
    torch.testing.assert_close(cmpa.bank.image[place], foreground[0, 1])
    torch.testing.assert_close(cmpa.bank.text[place], text[0, 1])
    assert noun_key("car") not in cmpa.bank.keys.tolist(), "absent labels have no region"
    others = CMPA(8, CMPAConfig(bank=10))
    others.load_state_dict(cmpa.state_dict())
    assert others.bank.keys.equal(cmpa.bank.keys) and others.bank.image.equal(cmpa.bank.image)
    swapped = (foreground.flip(0), text.flip(0), torch.ones(2, 1, dtype=torch.bool), [["sky"], ["sea"]])
    alone = CMPA(8, CMPAConfig(bank=0))(swapped[0][:, :1], swapped[1][:, :1], *swapped[2:])
    assert others.eval()(swapped[0][:, :1], swapped[1][:, :1], *swapped[2:]) > alone, "the bank adds negatives"


def test_two_processes_remember_what_one_would(batch, monkeypatch):
    alone = CMPA(8, CMPAConfig(bank=3))
    alone(*batch)
    halves = [tuple(values[i : i + 1] for values in batch) for i in range(2)]
    sent = []
    monkeypatch.setattr("training.objective.cmpa.gathered", lambda value: sent.append(value) or [value])
    for half in halves:
        CMPA(8, CMPAConfig(bank=3))(*half)
    monkeypatch.setattr("training.objective.cmpa.gathered", lambda _: sent)
    for half in halves:
        process = CMPA(8, CMPAConfig(bank=3))
        process(*half)
        assert all(value.equal(alone.bank.state_dict()[name]) for name, value in process.bank.state_dict().items())


def test_a_batch_without_labels_has_no_loss_but_a_gradient_of_zero(batch):
    foreground, text, present, labels = batch
    foreground.requires_grad_()
    loss = CMPA(8, CMPAConfig())(foreground, text, torch.zeros_like(present), labels)
    loss.backward()
    assert loss.item() == 0 and (foreground.grad == 0).all()


def test_labels_without_names_are_refused(batch):
    foreground, text, present, _ = batch
    with pytest.raises(ValueError, match="3 labels are present and 2 named"):
        CMPA(8, CMPAConfig())(foreground, text, present, [["dog"], ["cat"]])
    with pytest.raises(ValueError, match="0 named"):
        CMPA(8, CMPAConfig())(foreground, text, present, [])


def test_keys_are_positive_and_the_same_in_every_run():
    assert noun_key("dog") == 2072328596179865168
    assert 0 < noun_key("草") < 2**63 and noun_key("dog") != noun_key("dogs")


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"bank": -1}, {"momentum": 1.0}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        CMPAConfig(**values)
