"""Half precision for what runs for every frame: in products alone, or throughout where that changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from synseg_model.network.synseg import SynSeg

LARGEST_DIFFERENCE = 0.02  # of activations, between the two; on one GPU it was 0.0006
_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)


def halve_products(network: SynSeg, half: torch.dtype) -> None:
    """Turn the weights of products behind an image to half precision, as autocast would in every pass.

    Norms keep float32, and so does the text tower, which runs once for a label.
    """
    for part in _parts(network):
        for module in part.modules():
            if isinstance(module, _PRODUCTS):
                module.to(half)


def halve_throughout(network: SynSeg, half: torch.dtype, activations: Callable[[bool], Tensor]) -> bool:
    """Turn all weights behind an image to half precision, unless activations change by that; return whether it is so.

    Autocast turns values to float32 and back between any two products, which takes a tenth of a frame's time. Networks
    whose values leave the range of half precision need it.

    network: with products in half precision. activations: segments an example; told whether without autocast.
    """
    expected = activations(False)
    tensors = [t for part in _parts(network) for t in (*part.parameters(), *part.buffers())]
    kept = [tensor.data for tensor in tensors]
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(half)
    difference = (activations(True) - expected).abs().max().item()
    if difference <= LARGEST_DIFFERENCE:  # nan is in no order
        return True
    for tensor, data in zip(tensors, kept, strict=True):
        tensor.data = data
    return False


def _parts(network: SynSeg) -> tuple[nn.Module, nn.Module]:
    return network.encoder.image, network.decoder
