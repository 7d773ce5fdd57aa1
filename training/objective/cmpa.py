"""Cross-modal prototype alignment: a label's region and its text are each other's nearest among many nouns.

Source: Bi et al., "SSR: Semantic and Spatial Rectification for CLIP-based Weakly Supervised Segmentation",
arXiv 2512.01701. There every class of the data set has a prototype; an open vocabulary has too many, so the bank over
the most frequent nouns and what it contrasts are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.objective.processes import gathered


@dataclass
class CMPAConfig:
    """Settings of prototype alignment.

    Args:
        temperature: temperature of the contrast, above 0 (SSR).
        bank: number of the most frequent nouns whose prototypes are kept as negatives; 0 contrasts within the batch
            alone (ours).
        momentum: share of a noun's image prototype in the bank that a batch with the noun keeps, from 0 to below 1
            (ours).
    """

    temperature: float = 0.05
    bank: int = 1_000
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.bank < 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"temperature {self.temperature}, bank {self.bank}, momentum {self.momentum}: "
                "expected above 0, 0 or more, and 0 to below 1"
            )


def noun_key(noun: str) -> int:
    """Name a noun by 63 bits above 0, the same in every process and run."""
    return 1 + int.from_bytes(hashlib.blake2b(noun.encode(), digest_size=8).digest(), "big") // 2


class PrototypeBank(nn.Module):
    """Prototypes of the nouns that occur most often, found as they stream by.

    Nouns are counted by Space-Saving (Metwally et al., ICDT 2005): a noun that is not known takes the place of the
    rarest one and one more than its count. Every noun that makes up more than 1/size of all that came is sure to be in
    the bank. All is buffers, so checkpoints keep it: keys (M,) int64, 0 for free places; counts (M,) int64; image and
    text (M,D), the moving average of unit image prototypes and the unit text embedding.
    """

    keys: Tensor
    counts: Tensor
    image: Tensor
    text: Tensor

    def __init__(self, size: int, width: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        for name in ("keys", "counts"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.long))
        for name in ("image", "text"):
            self.register_buffer(name, torch.zeros(size, width))

    @torch.no_grad()
    def update(self, keys: Sequence[int], image: Tensor, text: Tensor) -> None:
        """Take in the nouns of a batch.

        A noun's place moves to momentum * place + (1 - momentum) * mean of its vectors. A new noun starts at that mean.

        Args:
            keys: of M nouns, repeated where a noun is in several images.
            image: (M,D) image prototypes, of length 1.
            text: (M,D) text embeddings, of length 1.
        """
        if not len(self.keys):
            return
        places = {key: place for place, key in enumerate(self.keys.tolist()) if key}
        counts, image, text = self.counts.tolist(), image.to(self.image), text.to(self.text)
        rows: dict[int, list[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, []).append(row)
        for key, own in rows.items():
            mean = image[own].mean(dim=0)
            place = places.get(key)
            if place is None:
                place = min(range(len(counts)), key=counts.__getitem__)
                places.pop(int(self.keys[place]), None)
                places[key] = place
                self.keys[place], self.image[place], self.text[place] = key, mean, text[own[0]]
            else:
                self.image[place] = self.momentum * self.image[place] + (1 - self.momentum) * mean
            counts[place] += len(own)
        self.counts.copy_(torch.tensor(counts))


def alignment_loss(
    image: Tensor, text: Tensor, keys: Tensor, others: tuple[Tensor, Tensor, Tensor], temperature: float
) -> Tensor:
    """Tell each image prototype's own text among the nouns' texts, and each text's own image prototype.

    Image to text (SSR) is the cross-entropy over one text for each noun. Text to image (ours) is the cross-entropy
    over the label's own image prototype and those of all other nouns. So another image of the same noun is never a
    negative.

    Args:
        image: (M,D) image prototypes of a batch's labels, of length 1.
        text: (M,D) their text embeddings, of length 1.
        keys: (M,) int64, which noun each is.
        others: keys (R,), image prototypes (R,D) and texts (R,D) of further nouns.
        temperature: of the contrast, above 0.

    Returns:
        A scalar: the mean of both directions over the labels.
    """
    other_keys, other_image, other_text = others
    new = ~torch.isin(other_keys, keys)
    first = (keys.unsqueeze(0) == keys.unsqueeze(1)).int().argmax(dim=1)  # where each noun is for the first time
    nouns, own = first.unique(return_inverse=True)
    to_text = image @ torch.cat([text[nouns], other_text[new]]).T / temperature
    same = torch.cat([keys, other_keys]).unsqueeze(0) == keys.unsqueeze(1)  # (M, M + R)
    me = torch.eye(len(keys), len(keys) + len(other_keys), dtype=torch.bool, device=keys.device)
    to_image = text @ torch.cat([image, other_image]).T / temperature
    to_image = to_image.masked_fill(same & ~me, -torch.inf)
    return (F.cross_entropy(to_text, own) + F.cross_entropy(to_image, torch.arange(len(keys), device=keys.device))) / 2


class CMPA(nn.Module):
    """Align foreground vectors with the text of their labels, against the nouns of the batch and of a bank.

    A foreground vector is a region's masked average but for a factor, which cosines do not see. Only foreground
    vectors get a gradient. While training the bank takes in a batch after its loss is computed.
    """

    def __init__(self, width: int, config: CMPAConfig):
        """Begin with an empty bank.

        Args:
            width: D of the joint space.
            config: settings of the term.
        """
        super().__init__()
        self.config = config
        self.bank = PrototypeBank(config.bank, width, config.momentum)

    def forward(self, foreground: Tensor, text: Tensor, present: Tensor, labels: list[list[str]]) -> Tensor:
        """Compute the loss of a batch.

        Args:
            foreground: (B,N,D) synergy vectors.
            text: (B,N,D) frozen label embeddings.
            present: (B,N) bool, labels of the caption.
            labels: the N labels of each image, or the first of them.

        Returns:
            A scalar; 0 where no label is present.

        Raises:
            ValueError: a present label has no name.
        """
        named = [len(names) for names in labels] + [0] * (len(present) - len(labels))
        index = torch.arange(present.shape[1], device=present.device)
        if (present & (index >= torch.tensor(named, device=present.device).unsqueeze(1))).any():
            raise ValueError(f"{int(present.sum())} labels are present and {sum(named)} named: CMPA needs their names")
        places = present.nonzero().tolist()
        if not places:
            return 0 * foreground.float().sum()
        keys = [noun_key(labels[row][column]) for row, column in places]
        with torch.autocast(foreground.device.type, enabled=False):
            image = F.normalize(foreground[present].float(), dim=1)
            own = F.normalize(text[present].float(), dim=1).detach()
            bank, known = self.bank, self.bank.keys > 0
            others = (bank.keys[known], F.normalize(bank.image[known], dim=1), bank.text[known])
            loss = alignment_loss(image, own, torch.tensor(keys, device=image.device), others, self.config.temperature)
        if self.training:
            everywhere = gathered((keys, image.detach().cpu(), own.cpu()))
            bank.update(
                [key for part, _, _ in everywhere for key in part],
                *(torch.cat([part[i] for part in everywhere]) for i in (1, 2)),
            )
        return loss
