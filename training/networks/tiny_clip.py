"""The architecture of synseg-tiny's CLIP: small enough to ship and to train on two CPU cores."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import open_clip
from open_clip.tokenizer import default_bpe
from torch import Tensor

from synseg_model.network.clip_encoder import ClipEncoder

MERGES_FILE = "merges.txt.gz"
MERGES = 5630  # CLIP's most frequent merges; 512 bytes and byte-ends + merges + 2 marks = 6,144 tokens

TINY_CLIP = {
    "embed_dim": 256,
    "vision_cfg": {
        # A camera's 4:3 image in full, so that no position is ever interpolated there. Small images are trained on
        # windows of these positions: attention then reaches as far in a close view as in a whole scene.
        "image_size": [168, 224],
        "patch_size": 8,
        "width": 192,
        "layers": 6,
        "head_width": 64,
        # Every patch takes part in the image's embedding: with few images to learn from, this teaches the tokens
        # what lies where much sooner than a class token does.
        "pool_type": "avg",
    },
    "text_cfg": {"context_length": 77, "vocab_size": 512 + MERGES + 2, "width": 192, "heads": 3, "layers": 4},
}

PATCH = TINY_CLIP["vision_cfg"]["patch_size"]
SIZE = tuple(TINY_CLIP["vision_cfg"]["image_size"])  # of a whole scene, height and width in pixels
GRID = (SIZE[0] // PATCH, SIZE[1] // PATCH)  # its rows and columns of tokens
CLIP_FILE, ABOUT_FILE = "clip.safetensors", "clip.json"  # of the folder that training.pretrain_clip writes


def random_window(whole: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw where in a whole image (height, width) a smaller one lies; returns rows and columns of its token grid."""
    spare = [(most - side) // PATCH for most, side in zip(whole, size, strict=True)]
    corner = [int(rng.integers(most + 1)) for most in spare]
    rows, columns = (slice(start, start + side // PATCH) for start, side in zip(corner, size, strict=True))
    return rows, columns


def random_position(encoder: ClipEncoder, images: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the position embeddings (1+P,C) of a window of the size of `images` (B,3,h,w), drawn anywhere."""
    return encoder.window_position(GRID, *random_window(SIZE, images.shape[2:], rng))


def write_merges(folder: Path) -> Path:
    """Write the first MERGES of CLIP's own BPE merges (MIT licence, OpenAI) to `folder`, byte for byte the same."""
    path = Path(folder) / MERGES_FILE
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as source:
        lines = [next(source) for _ in range(MERGES + 1)]  # the first line is a version mark
    lines[-1] = lines[-1].rstrip("\n")
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as target:
        target.write("".join(lines).encode("utf-8"))
    return path


def tokenizer(folder: Path) -> open_clip.SimpleTokenizer:
    """Load the tokenizer whose merges `write_merges` wrote."""
    return open_clip.SimpleTokenizer(bpe_path=str(Path(folder) / MERGES_FILE))
