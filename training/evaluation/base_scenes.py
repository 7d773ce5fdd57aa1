"""What a decoder reaches on generated scenes of the kind that it trains on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from synseg_model.network.synseg import SynSeg, enlarge
from training.datasets.arrays import to_tensor
from training.datasets.mask_batches import COMPETING
from training.evaluation.metrics import ConfusionMatrix
from training.scenes.pool import Chunk
from training.scenes.scenes import BASE_NOUNS


@torch.no_grad()
def measure_base(
    network: SynSeg,
    decoder: nn.Module,
    chunk: Chunk,
    table: Tensor,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, float]:
    """Measure scenes, every noun and every kind of stuff of the base split competing.

    Args:
        network: whose encoder reads the scenes.
        decoder: what is measured.
        chunk: held-out scenes with masks.
        table: (N,C) text embeddings of `COMPETING`.
        autocast: the precision to compute in.

    Returns:
        mIoU in percent of "nouns" and of "stuff".
    """
    matrix = ConfusionMatrix(len(COMPETING))
    for image, index_map, segments in zip(chunk.images, chunk.index_maps, chunk.segments, strict=True):
        with autocast():
            pixels = to_tensor(image[None], table.device)
            states = network.encoder.hidden_states(pixels, network.config.decoder.layers)
            maps = decoder(decoder.reduce(states), table.unsqueeze(0), network.grid(pixels))
            logits = enlarge(maps, pixels.shape[2:])[0]
        truth = np.array([COMPETING.index(noun) for noun, _ in segments])[index_map]
        matrix.update(logits.argmax(dim=0).cpu().numpy(), truth)
    things = range(len(BASE_NOUNS))
    return {"nouns": matrix.mean_iou(things), "stuff": matrix.mean_iou(range(len(BASE_NOUNS), len(COMPETING)))}
