"""Fixtures that every test folder may use."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # each of several test processes has a core, which more threads would share
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
from filelock import FileLock

from synseg_model.config import DecoderConfig, EncoderConfig, ImageConfig, ModelConfig
from tests.ros_domain import own_domain

# A shell that starts the tests in the background has them ignore SIGINT, and every process they start inherits that:
# those that a test interrupts would never hear of it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL_CLIP = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "layers": 4, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


class ColorEngine:
    """Find labels by colour, without a network: deterministic, instant, and it notes the prompts it was given.

    A label's embedding comes from a hash of its prompt; its activation is the sigmoid of a random linear
    function, set by the embedding, of the blurred colours of the frame, at an eighth of its size.
    """

    name = "color"
    device = "cpu"
    independent_labels = True
    width = 16

    def __init__(self, fingerprint: str = "00ff", **config) -> None:
        self.config = ModelConfig(name="color", encoder=EncoderConfig(model="none"), **config)
        self.fingerprint = fingerprint
        self.prompts: list[str] = []
        self._lock = threading.Lock()

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def encode_text(self, prompts: Sequence[str]) -> np.ndarray:
        with self._lock:
            self.prompts += prompts
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in prompts]
        return np.stack([np.random.default_rng(seed).normal(size=self.width) for seed in seeds]).astype(np.float32)

    def activations(self, frames: Sequence[np.ndarray], text: np.ndarray) -> list[np.ndarray]:
        return [self._activation(frame, text) for frame in frames]

    def _activation(self, frame: np.ndarray, text: np.ndarray) -> np.ndarray:
        height, width = (max(1, side // 8) for side in frame.shape[:2])
        colors = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 127.5 - 1
        logits = np.einsum("kc,hwc->khw", 4 * text[:, :3], colors) + text[:, 3, None, None]
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.fixture
def color_engine() -> ColorEngine:
    """An engine that finds labels by colour, for tests of what surrounds one."""
    return ColorEngine()


@pytest.fixture
def make_color_engine() -> type[ColorEngine]:
    """Make such engines with other fingerprints or configs."""
    return ColorEngine


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    """A folder that all processes of this test run share, and no other run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def make_once(run_folder) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a new folder that a function has filled, the same one in all processes of this test run."""

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = run_folder / name / "made", run_folder / name / "done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(run_folder / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what failed half-way
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture
def one_demo_at_a_time(run_folder) -> Iterator[None]:
    """Wait until no other test shows a demo: in a Docker container there is shared memory for one."""
    with FileLock(run_folder / "demo.lock"):
        yield


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    """A config whose encoder is tiny and carried by the folder."""
    return ModelConfig(
        name="small",
        encoder=EncoderConfig(SMALL_CLIP, included=True),
        decoder=DecoderConfig(layers=(0, 1, 3), width=16, heads=2, ffn=32, head="refined"),
        image=ImageConfig(size=64, resize="area"),
    )


@pytest.fixture(scope="session")
def small_model(make_once, small_config) -> Path:
    """A model folder with random weights, its decoder unlike the shipped one: plain head, a block before FiLM."""
    torch = pytest.importorskip("torch")

    from synseg_model.network.synseg import SynSeg
    from synseg_model.weights.model_folder import save_model

    decoder = dataclasses.replace(small_config.decoder, head="plain", conditional_layer=1)
    config = dataclasses.replace(small_config, decoder=decoder, normalize_text=True)

    def fill(folder: Path) -> None:
        torch.manual_seed(0)
        save_model(folder / "model", SynSeg.from_config(config), config)

    return make_once("small_model", fill) / "model"


@pytest.fixture(scope="session")
def exported_small(make_once, small_model) -> Path:
    """The exported folder of `small_model`; tests that damage it copy it first."""
    from synseg_model.export.folder import export_model

    return make_once("exported_small", lambda folder: export_model(small_model, folder / "exported")) / "exported"


@pytest.fixture(scope="session")
def levels_config() -> ModelConfig:
    """A config with a small backbone, which pads as TensorFlow does, and a tiny text tower."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "output_dim": 24}
    levels = (1, 2, 3, 4)
    return ModelConfig(
        name="levels",
        encoder=EncoderConfig(
            {"text_cfg": text}, included=True, backbone="tf_mobilenetv3_small_minimal_100", levels=levels
        ),
        decoder=DecoderConfig(
            layers=levels,
            width=16,
            heads=2,
            ffn=32,
            conditional_layer=2,
            skips=(8, 4),
            context_width=24,
            dense=True,
            presence=True,
        ),
        image=ImageConfig(size=128, resize="area"),
        normalize_text=True,
    )


@pytest.fixture(scope="session")
def levels_model(make_once, levels_config) -> Path:
    """The model folder of `levels_config` with random weights, its batch statistics too."""
    torch = pytest.importorskip("torch")

    from synseg_model.network.synseg import SynSeg
    from synseg_model.weights.model_folder import save_model

    def fill(folder: Path) -> None:
        torch.manual_seed(0)
        network = SynSeg.from_config(levels_config)
        for name, statistic in network.encoder.image.named_buffers():
            if name.endswith("running_mean"):
                statistic.normal_(std=0.1)
            elif name.endswith("running_var"):
                statistic.uniform_(0.5, 1.5)
        torch.nn.init.normal_(network.decoder.head16.weight)
        torch.nn.init.normal_(network.decoder.head4.weight)
        save_model(folder / "model", network, levels_config)

    return make_once("levels_model", fill) / "model"


@pytest.fixture(scope="session")
def make_graphs_once(exported_small) -> Callable:
    """Make a network's graphs as an export does, but for those of every model: `exported_small` has them.

    Making those takes each test process seconds.
    """
    import onnx

    from synseg_model.export.graphs import make_network_graphs
    from synseg_model.weights.exported_folder import LABEL_MAP, MASKS

    return lambda network: {
        **make_network_graphs(network),
        **{name: onnx.load(exported_small / name) for name in (LABEL_MAP, MASKS)},
    }


@pytest.fixture(scope="session")
def exported_levels(make_once, levels_model, make_graphs_once) -> Path:
    """The exported folder of `levels_model`; tests that damage it copy it first."""
    from synseg_model.export.folder import export_model
    from synseg_model.weights.model_folder import load_model

    def fill(folder: Path) -> None:
        export_model(levels_model, folder / "exported", graphs=make_graphs_once(load_model(levels_model)[0]))

    return make_once("exported_levels", fill) / "exported"


@pytest.fixture
def gradient_image() -> np.ndarray:
    """A colourful image (120,160,3): red grows to the right, green downwards, blue is a disc."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, 160)[None]
    image[..., 1] = np.linspace(0, 255, 120)[:, None]
    blue = np.zeros((120, 160), np.uint8)
    cv2.circle(blue, (80, 60), 35, 255, -1)
    image[..., 2] = blue
    return image


@pytest.fixture(scope="session", autouse=True)
def ros_domain() -> Iterator[int]:
    """Keep whatever ROS the tests start on this machine, and apart from every other ROS process on it."""
    with own_domain() as domain:
        yield domain


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory, monkeypatch) -> None:
    """Keep tests away from the user's cache."""
    monkeypatch.setenv("SYNSEG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def ray_cluster():
    """A head that does no work and two workers."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
