"""An engine without a network; run as a module, a node with it: python -m tests.synseg_ros.stripes."""

import sys
import tempfile
from types import SimpleNamespace

import numpy as np


class StripeEngine:
    """Shows label i of K in the i-th of K equal vertical stripes of every picture."""

    name, device, fingerprint = "stripes", "cpu", "0" * 64
    config = SimpleNamespace(name="stripes", context_length=77, templates=("{}",), normalize_text=False, threshold=0.5)

    def count_tokens(self, text):
        return 2 + len(text.split())

    def encode_text(self, prompts):
        return np.ones((len(prompts), 4), np.float32)

    def activations(self, frames, text):
        stripes = np.repeat(np.eye(len(text), dtype=np.float32), 16, axis=1)
        return [np.repeat(stripes[:, None], 16, axis=1) for _ in frames]


def main():
    from synseg_model import Segmenter
    from synseg_ros import node

    with tempfile.TemporaryDirectory() as cache:
        Segmenter.load = lambda *args, **options: Segmenter(StripeEngine(), cache_dir=cache)
        return node.main()


if __name__ == "__main__":
    sys.exit(main())
