"""Where tests run onnxruntime, and what they have it segment."""

import numpy as np
import onnxruntime
import pytest

from synseg_model import Result

needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"
    ),
]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]
LABELS = tuple(f"label {i}" for i in range(7))


def text_of(engine, labels=LABELS):
    text = engine.encode_text(list(labels))
    return text / np.linalg.norm(text, axis=1, keepdims=True)


def segment(engine, frames, vocabulary):
    found = engine.device_maps(frames, vocabulary.embeddings)
    return [Result(vocabulary, maps, frame.shape[:2]) for maps, frame in zip(found, frames, strict=True)]
