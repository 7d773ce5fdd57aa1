"""Other projects' models that find labels or objects in an image, run by their own code, with random weights.

Weights change no speed, but for one thing: random ones find nothing, so YOLOE makes no masks. Its time is then a little
less than in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def make_peer(name: str, device: str) -> Yoloe | Sam2:
    """Make a peer.

    Args:
        name: One of PEERS.
        device: "cpu" or "cuda".

    Raises:
        ImportError: Its library is not installed.
        KeyError: There is no such peer.
    """
    torch.manual_seed(0)
    return PEERS[name](device)


class Yoloe:
    """YOLOE of the package ultralytics: boxes and masks of objects for labels, which it has as text embeddings."""

    def __init__(self, device: str) -> None:
        from ultralytics import YOLOE

        self._model, self._device = YOLOE("yoloe-11s-seg.yaml"), device

    def prepare(self, labels: int) -> None:
        self.vocabulary = [f"label {i}" for i in range(labels)]
        embeddings = torch.nn.functional.normalize(torch.randn(1, labels, 512), dim=-1)
        self._model.set_classes(self.vocabulary, embeddings)

    def settle(self, frames: Sequence[np.ndarray]) -> None:
        self.run(frames, self.vocabulary)

    def run(self, frames: Sequence[np.ndarray], vocabulary: object) -> None:
        for found in self._model.predict(list(frames), device=self._device, verbose=False):
            found.cpu()


class Sam2:
    """SAM 2 of the package transformers: one mask for each point, as it takes no labels; one encoding of the image."""

    def __init__(self, device: str) -> None:
        from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

        self._model = Sam2Model(Sam2Config()).eval().to(device)
        self._processor, self._device = Sam2Processor(Sam2ImageProcessor()), device

    def prepare(self, labels: int) -> None:
        self.vocabulary = np.random.default_rng(0).random((labels, 2))  # points as shares of width and height

    def settle(self, frames: Sequence[np.ndarray]) -> None:
        self.run(frames, self.vocabulary)

    @torch.inference_mode()
    def run(self, frames: Sequence[np.ndarray], vocabulary: np.ndarray) -> None:
        for frame in frames:
            points = [(vocabulary * frame.shape[1::-1])[:, None].tolist()]
            given = self._processor(
                images=frame, input_points=points, input_labels=[[[1]] * len(vocabulary)], return_tensors="pt"
            ).to(self._device)
            masks = self._model(**given, multimask_output=False).pred_masks.cpu()
            self._processor.post_process_masks(masks, given["original_sizes"])


# ultralytics is under the AGPL, so it is no part of the environment: nobody gets it unasked.
PEERS = {"YOLOE 11s": Yoloe, "SAM 2 tiny": Sam2}
