"""An engine that finds paint, and painted images."""

import numpy as np

from synseg_model.config import EncoderConfig, ModelConfig
from tests.synseg_ros.rig import HEIGHT, WIDTH


class PaintEngine:
    """Find paint: the activation of "red", "green" and "blue" is that channel, and of anything else 0.25.

    batches notes the number of labels of each call.
    """

    name, device = "paint", "cpu"
    independent_labels = True
    config = ModelConfig(name="paint", encoder=EncoderConfig(model="none"))
    fingerprint = "0a17"
    COLORS = ("red", "green", "blue")

    def __init__(self):
        self.batches, self.encoded = [], []

    def count_tokens(self, text):
        return 2 + len(text.split())

    def encode_text(self, prompts):
        self.encoded += prompts
        embeddings = np.full((len(prompts), 4), 1e-6, np.float32)  # of what is no color, the last one is the largest
        for row, prompt in zip(embeddings, prompts, strict=True):
            found = [index for index, color in enumerate(self.COLORS) if color in prompt.strip(".").split()]
            row[found[0] if found else 3] = 1
        return embeddings

    def activations(self, frames, text):
        self.batches.append(len(text))
        maps = []
        for frame in frames:
            planes = np.concatenate([frame / np.float32(255), np.full((*frame.shape[:2], 1), 0.25, np.float32)], axis=2)
            maps.append(np.ascontiguousarray(planes[..., text.argmax(axis=1)].transpose(2, 0, 1), np.float32))
        return maps


def painted(*patches, shape=(HEIGHT, WIDTH)):
    """Paint a black image (H, W, 3) uint8: patches are a color's name, rows and columns."""
    image = np.zeros((*shape, 3), np.uint8)
    for color, rows, columns in patches:
        image[slice(*rows), slice(*columns), PaintEngine.COLORS.index(color)] = 255
    return image
