"""Torch modules to ONNX graphs with dynamic sizes, in operators that every runtime has fast kernels for."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from onnxscript import opset18 as op
from torch import Tensor, nn

from synseg_model.config import ModelError

OPSET = 18  # has LayerNormalization; read by TensorRT 10 and by onnxruntime 1.18


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what torch notes of its tracing: call stacks, with the paths of the machine that exported.

    Args:
        model: the graph, which is changed.
    """
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], shapes: dict) -> onnx.ModelProto:
    """Export a module as a graph.

    Args:
        module: the module; it is set to eval mode.
        inputs: an example of each input, by name.
        outputs: names of the outputs.
        shapes: the dynamic axes of each input, by name.

    Raises:
        ModelError: where torch makes a dynamic axis fixed.
    """
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table={
                torch.ops.aten.scaled_dot_product_attention.default: _attention,
                torch.ops.aten.upsample_bilinear2d.vec: _bilinear,
            },
            verbose=False,
        )
    model = without_traces(program.model_proto)
    onnx.checker.check_model(model)
    for value, axes in ((value, shapes[value.name]) for value in model.graph.input):
        sizes = value.type.tensor_type.shape.dim
        if any(not sizes[axis].dim_param for axis in axes):  # torch may fix the example's size without a warning
            raise ModelError(f"torch {torch.__version__} gives input {value.name!r} a fixed size: use another torch")
    return model


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Translate attention to the three operators that TensorRT and onnxruntime fuse."""
    factor = op.Constant(value_float=query.shape[-1] ** -0.5)
    scores = op.MatMul(op.Mul(query, factor), op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _bilinear(image, size, align_corners, scale_factors=None):
    """Translate resampling to a size; torch's own translation gets the sampling point of a single pixel wrong."""
    sides = (op.Reshape(side, op.Constant(value_ints=[1])) for side in size)
    sizes = op.Concat(op.Shape(image, end=2), *sides, axis=0)
    return op.Resize(image, None, None, sizes, mode="linear", coordinate_transformation_mode="half_pixel")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's advice to its developers, and keep fused kernels out of the graph."""
    fast, level = torch.backends.mha.get_fastpath_enabled(), logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.backends.mha.set_fastpath_enabled(fast)
