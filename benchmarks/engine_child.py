"""One fresh process of `benchmarks.engines`: loads an engine as a robot does, and prints what that took as JSON.

Nothing else is imported here, so that times and memory are the engine's own.
"""

import importlib
import json
import resource
import sys
import tempfile
import time

started = time.perf_counter()

import numpy as np  # noqa: E402

from synseg_model import Segmenter  # noqa: E402

PAGE = resource.getpagesize()


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def timed(run) -> float:
    """Run and return the seconds that it took."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main(model: str, engine: str, device: str, labels: int) -> dict:
    """Load, segment one frame for so many labels, and change vocabularies a few times."""
    with tempfile.TemporaryDirectory() as cache:
        rooms = {"tensorrt": "tensorrt.engine"}
        importlib.import_module(f"synseg_model.engines.{rooms.get(engine, engine)}")
        imported = time.perf_counter() - started
        segmenter = Segmenter.load(model, engine, device, max_labels=max(labels, 20), cache_dir=cache)
        segmenter.set_vocabulary([f"thing {i}" for i in range(labels)])
        frame = np.zeros((480, 640, 3), np.uint8)
        _ = segmenter.segment(frame).label_map
        result = {"import_s": imported, "start_s": time.perf_counter() - started, "resident_bytes": resident()}
        rounds = [[f"round {turn} label {i}" for i in range(20)] for turn in range(5)]
        result["new_labels_s"] = sorted(timed(lambda new=new: segmenter.set_vocabulary(new)) for new in rounds)[2]
        result["cached_labels_s"] = sorted(timed(lambda old=old: segmenter.set_vocabulary(old)) for old in rounds)[2]
        vocabulary = segmenter.vocabulary
        # What happens between two frames, as the node prepares vocabularies on another thread.
        result["swap_s"] = min(timed(lambda: segmenter.use(vocabulary)) for _ in range(5))
        result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        libraries = ("torch", "open_clip", "onnxruntime", "openvino", "tensorrt")
        result["imports"] = [name for name in libraries if name in sys.modules]
        return result


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
