"""ONNX graphs in float16, with islands of float32 where ten bits, or a largest value of 65504, are too few."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FULL = {"LayerNormalization", "ReduceL2", "Softmax"}  # sums over many values
_HALF_TYPE = {False: TensorProto.FLOAT, True: TensorProto.FLOAT16}


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a graph to float16; its inputs and outputs keep their types.

    Normalisation layers, lengths and softmax stay float32. So does what bytes go through before the first convolution:
    resizing and normalising images. A Cast goes wherever one precision meets the other.

    Args:
        model: a float32 graph.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    types |= {name: tensor.data_type for name, tensor in weights.items()}
    images = _before_the_first_convolution(graph)
    half = dict.fromkeys(types, False)  # whether a value is float16 so far
    kept: dict[tuple[str, bool], str] = {}  # the name of a value in a precision
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, onnx.TensorProto] = {}

    def in_precision(name: str, wanted: bool) -> str:
        """Name a value in the precision wanted, which a Cast or a converted weight brings where it has the other."""
        if name in weights:
            tensor = weights[name]
            if wanted and types[name] == TensorProto.FLOAT:
                array = numpy_helper.to_array(tensor).astype(np.float16)
                tensor = numpy_helper.from_array(array, name + ".half")
            initializers[tensor.name] = tensor
            return tensor.name
        if types.get(name) != TensorProto.FLOAT or half[name] == wanted:
            return name
        if (name, wanted) not in kept:
            kept[name, wanted] = f"{name}.{'half' if wanted else 'full'}"
            nodes.append(helper.make_node("Cast", [name], [kept[name, wanted]], to=_HALF_TYPE[wanted]))
        return kept[name, wanted]

    for node in graph.node:
        made_full = node.op_type in ("Cast", "Constant", "ConstantOfShape")  # an attribute chooses their type
        wanted = node.op_type not in _FULL and not made_full and not images & set(node.output)
        if node.op_type != "Cast":
            node.input[:] = [in_precision(name, wanted) for name in node.input]
        nodes.append(node)
        half.update({name: wanted for name in node.output if types.get(name) == TensorProto.FLOAT})
    for output in graph.output:
        if half[output.name]:
            for node in nodes:
                for names in (node.input, node.output):
                    names[:] = [f"{name}.half" if name == output.name else name for name in names]
            nodes.append(helper.make_node("Cast", [f"{output.name}.half"], [output.name], to=TensorProto.FLOAT))

    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers.values())
    return model


def _before_the_first_convolution(graph: onnx.GraphProto) -> set[str]:
    """Name all values that make the image of the first convolution; none in a graph without uint8 inputs."""
    if all(value.type.tensor_type.elem_type != TensorProto.UINT8 for value in graph.input):
        return set()
    makers = {name: node for node in graph.node for name in node.output}
    open_names = [next(node for node in graph.node if node.op_type == "Conv").input[0]]
    found: set[str] = set()
    while open_names:
        name = open_names.pop()
        if name in makers and name not in found:
            found.add(name)
            open_names += makers[name].input
    return found
