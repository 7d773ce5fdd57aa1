"""What a run looks like from time to time: activation maps of a few training images, label by label."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from synseg_model.io.drawing import contact_sheet
from synseg_model.network.synseg import SynSeg, enlarge
from training.objective.batch import Batch

LABELS = 5  # maps of an image that are shown


def heat(image: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """Tint an image (H,W,3) uint8 RGB by an activation map (H,W) in [0, 1]: blue for 0 to red for 1."""
    colors = cv2.applyColorMap((activation * 255).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
    return cv2.addWeighted(image, 0.45, np.ascontiguousarray(colors), 0.55, 0)


def activation_images(network: SynSeg, part: Batch) -> Callable[[nn.Module], dict[str, np.ndarray]]:
    """Return a function that draws the maps which a decoder gives the images and labels of a part."""
    images = to_images(part.images, network.config.image.mean, network.config.image.std)

    @torch.no_grad()
    def draw(decoder: nn.Module) -> dict[str, np.ndarray]:
        states = network.encoder.hidden_states(part.images, network.config.decoder.layers)
        logits = decoder(decoder.reduce(states), part.text, network.grid(part.images)).float()
        maps = enlarge(logits, part.images.shape[2:]).sigmoid().cpu().numpy()
        cells, captions = [], []
        for image, labels, present, planes in zip(images, part.labels, part.present.tolist(), maps, strict=True):
            shown = [(f"{label}{'' if here else ' (absent)'}", plane) for label, here, plane in
                     zip(labels, present, planes, strict=False)][:LABELS]  # fmt: skip
            row = [("", image), *((name, heat(image, plane)) for name, plane in shown)]
            row += [("", np.full_like(image, 255))] * (1 + LABELS - len(row))
            captions += [name for name, _ in row]
            cells += [cell for _, cell in row]
        return {"activations": contact_sheet(cells, 1 + LABELS, captions, tile=160)}

    return draw


def to_images(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Undo the normalisation of (B,3,H,W); returns (B,H,W,3) uint8 RGB."""
    pixels = images.cpu().permute(0, 2, 3, 1) * torch.tensor(std) + torch.tensor(mean)
    return (pixels * 255).round().clamp(0, 255).byte().numpy()
