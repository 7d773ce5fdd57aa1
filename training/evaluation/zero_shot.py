"""What a small CLIP names right without having been trained to: nouns and colours of held-out scenes."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from synseg_model.network.clip_encoder import ClipEncoder
from training.datasets.arrays import to_tensor
from training.networks.tiny_clip import SIZE, random_position
from training.scenes.pool import render, render_closeup
from training.scenes.scenes import COLORS, NOUNS


class ZeroShot:
    """Held-out images of one thing each, to be told apart by noun and by colour."""

    def __init__(self, count: int):
        """Render `count` close views and as many whole scenes."""
        seeds = range(90_000_000, 90_000_000 + count)
        closeups = [render_closeup(seed, (64, 64), "all", (1, 1))[0] for seed in seeds]
        scenes = [render(seed, SIZE, "all", (1, 1), 2) for seed in seeds]
        self.images = {"closeup": closeups, "scene": scenes}
        self.words = {"noun": list(NOUNS), "color": list(COLORS)}

    @torch.no_grad()
    def __call__(self, encoder: ClipEncoder, device: torch.device) -> dict[str, float]:
        """Return the share named right of all nouns and of all colours, for close views and for whole scenes."""
        scores = {}
        for kind, scenes in self.images.items():
            images = to_tensor(np.stack([scene.image for scene in scenes])).to(device)
            position = random_position(encoder, images, np.random.default_rng(0))
            features = torch.cat([encoder.image_embedding(part, position) for part in images.split(50)]).float()
            things = [next(s for s in scene.segments if s.kind == "thing") for scene in scenes]
            for name, words in self.words.items():
                prompts = [f"a {word}" if name == "noun" else f"a {word} object" for word in words]
                text = F.normalize(encoder.encode_text(encoder.tokenize(prompts).to(device)).float(), dim=-1)
                guesses = [words[index] for index in (features @ text.T).argmax(dim=1).tolist()]
                hits = [guess == getattr(thing, name) for guess, thing in zip(guesses, things, strict=True)]
                scores[f"{kind}_{name}"] = round(float(np.mean(hits)), 3)
        return scores
