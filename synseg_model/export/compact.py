"""ONNX graphs of half the size and with the same results: weights that float16 holds exactly are stored as float16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST = 1024  # values; smaller weights are not worth a Cast
STORED = ".stored"  # suffix of a stored weight's name


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store float32 weights as float16 where that loses nothing; a Cast, which runtimes fold on loading, restores them.

    Models that are shipped in half precision have such weights, except for convolutions that took in a batch norm.

    Args:
        model: the graph; it stays as it is.

    Returns:
        A smaller graph with the same results.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    kept, casts = [], []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                half = array.astype(np.float16)
            if array.size >= LEAST and np.array_equal(half.astype(np.float32), array):
                kept.append(numpy_helper.from_array(half, f"{tensor.name}{STORED}"))
                casts.append(helper.make_node("Cast", [f"{tensor.name}{STORED}"], [tensor.name], to=TensorProto.FLOAT))
                continue
        kept.append(tensor)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return copy


def restore(model: onnx.ModelProto) -> onnx.ModelProto:
    """Undo `compact`.

    Args:
        model: the graph; it stays as it is.

    Returns:
        A graph whose weights are float32 again, without the Casts.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    restored = {node.input[0]: node for node in graph.node if node.op_type == "Cast" and node.input[0].endswith(STORED)}
    kept = [
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), restored[tensor.name].output[0])
        if tensor.name in restored
        else tensor
        for tensor in graph.initializer
    ]
    nodes = [node for node in graph.node if not (node.op_type == "Cast" and node.input[0] in restored)]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return copy
