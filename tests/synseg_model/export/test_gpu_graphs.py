"""Exported graphs run on a GPU from end to end: no array goes to the host and back in the middle of a run."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from synseg_model.export.to_onnx import to_onnx
from synseg_model.weights.exported_folder import FILES

# Inputs that onnxruntime's kernels for a GPU read on the host: sizes and places.
ON_THE_HOST = {
    "ConstantOfShape": {0},
    "Expand": {1},
    "Pad": {1, 3},
    "Range": {0, 1, 2},
    "Reshape": {1},
    "Resize": {1, 2, 3},
    "Slice": {1, 2, 3, 4},
    "Split": {1},
    "Squeeze": {1},
    "Tile": {1},
    "Unsqueeze": {1},
}
# Types that onnxruntime 1.31 has no kernel for on a GPU, by operator.
UNKNOWN_THERE = {
    "GatherND": {TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL},
    "ArgMax": {TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8},
}


def nodes_that_leave(model):
    """Name the nodes of a graph for which onnxruntime would copy arrays between a GPU and the host."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.input]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    ranks |= {each.name: len(each.dims) for each in graph.initializer}
    constant, host, found = {each.name for each in graph.initializer} | {""}, set(), []
    for node in graph.node:
        read_there = ON_THE_HOST.get(node.op_type, set())
        given = {i: name for i, name in enumerate(node.input) if name not in constant}
        data = [name for i, name in given.items() if i not in read_there]
        if not given:
            constant.update(node.output)
        elif node.op_type in ("Shape", "Size") or (data and all(name in host for name in data)):
            host.update(node.output)
        elif any((name in host) != (i in read_there) for i, name in given.items()):
            found.append(f"{node.op_type} {node.name}")
        elif node.op_type == "MatMul" and ranks[node.input[0]] < ranks[node.input[1]]:
            found.append(f"{node.op_type} {node.name}")  # addresses of each matrix go through memory of the host
        elif types.get(node.input[0]) in UNKNOWN_THERE.get(node.op_type, ()):
            found.append(f"{node.op_type} {node.name}")
    return found


@pytest.mark.parametrize("kind", ["small", "levels"])
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".onnx")])
def test_no_run_of_a_graph_leaves_the_gpu(request, kind, name):
    model = onnx.load(request.getfixturevalue(f"exported_{kind}") / name)
    assert nodes_that_leave(model) == []


class Scaled(torch.nn.Module):
    def forward(self, values):
        return values * values.shape[0]


class Named(torch.nn.Module):
    def forward(self, ids, places):
        return ids[places]


class Multiplied(torch.nn.Module):
    def forward(self, matrix, values):
        return matrix @ values


def test_what_leaves_the_gpu_is_found():
    rows = torch.export.Dim("rows")
    scaled = to_onnx(Scaled(), {"values": torch.zeros(3, 4)}, ["scaled"], {"values": {0: rows}})
    assert any(found.startswith("Mul") for found in nodes_that_leave(scaled))
    given = {"matrix": torch.zeros(2, 3), "values": torch.zeros(4, 3, 5)}
    multiplied = to_onnx(Multiplied(), given, ["product"], {"matrix": {0: rows}, "values": {0: torch.export.Dim("n")}})
    assert [found.split()[0] for found in nodes_that_leave(multiplied)] == ["MatMul"]
    given = {"ids": torch.zeros(5, dtype=torch.int32), "places": torch.zeros(3, 4, dtype=torch.int64)}
    named = to_onnx(Named(), given, ["named"], {"ids": {0: torch.export.Dim("ids")}, "places": {0: rows}})
    assert [found.split()[0] for found in nodes_that_leave(named)] == ["GatherND"]


def test_resizing_weighs_as_before():
    from synseg_model.network.postprocess import resize_weights

    generator = np.random.default_rng(0)
    for source, target in [(7, 3), (3, 7), (1, 1), (1, 5), (480, 352)]:
        columns, _ = resize_weights(source, source, target, target)
        values = torch.tensor(generator.normal(size=source), dtype=torch.float32)
        if target <= source:
            edges = np.linspace(0, source, target + 1)
            fine = np.interp(edges, np.arange(source + 1), np.concatenate([[0], np.cumsum(values.tolist())]))
            expected = np.diff(fine) * target / source
        else:
            mode = torch.nn.functional.interpolate(values[None, None], target, mode="linear", align_corners=False)
            expected = mode[0, 0].numpy()
        np.testing.assert_allclose(np.asarray(columns @ values), expected, atol=1e-5)
