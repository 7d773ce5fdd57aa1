"""Masks from captions: what a decoder takes for an image's segments once it is told what the caption says.

Asked for every noun there is, a decoder gives a thing it never saw masks of to a noun that it knows. The caption says
which noun is there. So the caption's labels compete with the other nouns of all captions at an advantage, and the
pixels that they win are masks to learn from. Captions leave things out; those go to a noun that was not named wherever
it is far ahead, and spoil no mask of a named label. The idea is expectation-maximisation with labels of the image
(Papandreou et al., arXiv 1502.02734), over an open vocabulary.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from synseg_model.network.synseg import SynSeg
from training.captions.extraction import head_noun
from training.datasets.arrays import to_tensor
from training.datasets.pairs import UNKNOWN, Pair, Pairs, Regions
from training.datasets.region_pairs import RegionPairs, write_regions
from training.networks.text_embedding import TextEmbedder

COUNTED = 5_000  # pairs whose labels make the vocabulary


@dataclass
class CaptionMaskConfig:
    """How masks are made of captions.

    Args:
        vocabulary: number of nouns that compete with a caption's labels: the most frequent ones of all captions.
        margin: logits by which a label that the caption does not name must be ahead to win a pixel, 0 or more.
        floor: smallest peak of a named label in the image, in logits. The caption says that the label is there.
        least: activation, from 0 to below 1. A pixel where no label reaches it belongs to none and teaches nothing.
    """

    vocabulary: int = 40
    margin: float = 4.0
    floor: float = 4.0
    least: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.vocabulary < UNKNOWN - 20 or self.margin < 0 or not 0 <= self.least < 1:
            raise ValueError(
                f"masks.vocabulary {self.vocabulary}, margin {self.margin}, least {self.least}: expected 1 to "
                f"{UNKNOWN - 21} nouns, 0 or more, and a share below 1"
            )


def name_pixels(logits: Tensor, named: int, config: CaptionMaskConfig) -> Tensor:
    """Give every pixel to a label.

    Args:
        logits: (N,H,W) maps; the first `named` labels are the caption's.
        named: number of labels of the caption.
        config: the advantage of the caption's labels.

    Returns:
        (H,W) indices of labels, UNKNOWN where no label is active.
    """
    own, others = logits[:named], logits[named:]
    lift = (config.floor - own.amax(dim=(1, 2), keepdim=True)).clamp(min=0)
    winner = torch.cat([own + lift, others - config.margin]).argmax(dim=0)
    return winner.masked_fill(logits.amax(dim=0).sigmoid() < config.least, UNKNOWN)


def frequent_nouns(pairs: Pairs, count: int) -> list[str]:
    """List the most frequent head nouns of the captions' labels."""
    frequency = Counter(head_noun(label) for pair in islice(pairs, COUNTED) for label in pair.labels)
    return [noun for noun, _ in frequency.most_common(count)]


@torch.no_grad()
def regions_of(
    pair: Pair, network: SynSeg, text: TextEmbedder, vocabulary: list[str], config: CaptionMaskConfig
) -> Pair:
    """Shrink a pair's image to the size at which the network sees it, and say which label has which pixels."""
    size = network.config.image.input_size(*pair.image.shape[:2], network.encoder.patch)
    image = pair.image
    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    heads = {head_noun(label) for label in [*pair.labels, *pair.known]}
    labels = [*pair.labels, *(noun for noun in vocabulary if noun not in heads)]
    device, statistics = next(network.parameters()).device, network.config.image
    logits = network(to_tensor(image[None], device, statistics.mean, statistics.std), text(labels))[0]
    winner = name_pixels(logits.float(), len(pair.labels), config).cpu().numpy()
    shown = [int(index) for index in np.unique(winner) if index != UNKNOWN]
    rows = np.full(UNKNOWN + 1, UNKNOWN, np.uint8)
    rows[shown] = np.arange(len(shown))
    return Pair(image, pair.labels, Regions(rows[winner], [labels[index] for index in shown]))


def caption_masks(
    pairs: Pairs, network: SynSeg, text: TextEmbedder, config: CaptionMaskConfig, cache: str | Path
) -> RegionPairs:
    """Make masks for the pairs of an epoch, or find those that were made.

    Args:
        pairs: images with the labels of captions.
        network: the teacher.
        text: embeds labels.
        config: how masks are made.
        cache: folder for the masks: each teacher has its own folder in it.

    Returns:
        The pairs with regions.

    Raises:
        OSError: the masks cannot be written.
    """
    pairs.node = (0, 1)  # one process makes them for all
    pairs.set_epoch(0)
    vocabulary = frequent_nouns(pairs, config.vocabulary)
    settings = {**asdict(config), "vocabulary": vocabulary, "pairs": pairs.size, "seed": pairs.seed}
    folder = Path(cache) / f"masks-{_key(network.decoder, settings)}"

    def made(start: int) -> Iterator[Pair]:
        pairs.set_epoch(0, start)
        for pair in pairs:
            yield regions_of(pair, network, text, vocabulary, config)

    write_regions(folder, made, pairs.size, settings)
    pairs.node = None
    return RegionPairs(folder, seed=pairs.seed)


def _key(decoder: nn.Module, settings: dict) -> str:
    """Name a teacher with its settings by a hash."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for tensor in decoder.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
