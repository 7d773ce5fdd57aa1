"""Small random networks, seeded, and exported models, for tests of the model code."""

import onnx
import pytest
import torch


@pytest.fixture
def small_network(small_config):
    """The network of `small_config` with random weights, in eval mode."""
    from synseg_model.network.synseg import SynSeg

    torch.manual_seed(0)
    return SynSeg.from_config(small_config).eval()


@pytest.fixture
def small_graphs(exported_small):
    """The graphs of `small_model`, as `make_graphs` made them."""
    return graphs_in(exported_small)


@pytest.fixture
def small_graphs_at_hand(small_graphs, monkeypatch):
    """Let exports of `small_model` take its graphs instead of making them again, which takes longest."""
    from synseg_model.export import folder

    monkeypatch.setattr(folder, "make_graphs", lambda network: small_graphs)


@pytest.fixture(scope="session")
def exported_tiny(make_once, make_graphs_once):
    """A folder with synseg-tiny exported as fp32 and as fp16."""
    from synseg_model.export.folder import export_model
    from synseg_model.weights.model_folder import load_model

    def fill(folder):
        graphs = make_graphs_once(load_model("synseg-tiny")[0])
        export_model("synseg-tiny", folder / "fp32", graphs=graphs)
        export_model("synseg-tiny", folder / "fp16", "fp16", graphs)

    return make_once("exported_tiny", fill)


def graphs_in(folder):
    """Read the graphs of a folder exported as fp32."""
    return {path.name: onnx.load(path) for path in folder.glob("*.onnx")}
