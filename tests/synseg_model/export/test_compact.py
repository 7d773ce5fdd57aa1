"""Weights that half precision holds exactly take half the room, and nothing else changes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from synseg_model.export.compact import LEAST, compact, restore

SIDE = 64


@pytest.fixture
def graph():
    """x @ exact + odd + x @ small: of three weights, only the first can be stored in half."""
    rng = np.random.default_rng(0)
    weights = {
        "exact": rng.normal(size=(SIDE, SIDE)).astype(np.float16).astype(np.float32),
        "odd": rng.normal(size=(SIDE, SIDE)).astype(np.float32),
        "small": np.ones((SIDE, 1), np.float32),
    }
    assert weights["exact"].size >= LEAST > weights["small"].size
    nodes = [
        helper.make_node("MatMul", ["x", "exact"], ["a"]),
        helper.make_node("Add", ["a", "odd"], ["b"]),
        helper.make_node("MatMul", ["x", "small"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIDE, SIDE]) for name in "xy"]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    made = helper.make_graph(nodes, "graph", value[:1], value[1:], initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model):
    x = np.random.default_rng(1).normal(size=(SIDE, SIDE)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_results_are_the_same_to_the_bit_in_less_room(graph):
    small = compact(graph)
    onnx.checker.check_model(small)
    assert np.array_equal(run(small), run(graph))
    assert small.ByteSize() < graph.ByteSize() - 2 * SIDE * SIDE + 200
    types = {tensor.name: tensor.data_type for tensor in small.graph.initializer}
    assert types == {"exact.stored": TensorProto.FLOAT16, "odd": TensorProto.FLOAT, "small": TensorProto.FLOAT}


def test_a_graph_is_restored_as_it_was_and_never_changed_in_place(graph):
    before = graph.SerializeToString()
    small = compact(graph)
    again = restore(small)
    assert graph.SerializeToString() == before and again.SerializeToString() == before
    assert restore(graph).SerializeToString() == before, "what was never compacted stays"
    assert compact(small).SerializeToString() == small.SerializeToString()


def test_values_beyond_half_precision_stay(graph):
    large = np.full((SIDE, SIDE), 1e6, np.float32)
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(large, "exact"))
    assert compact(graph).SerializeToString() == graph.SerializeToString()
