"""Sixteen bits: fp16 by ONNX Runtime's converter, and bf16 out of the same graph.

Inputs and outputs stay fp32, but a cache: between two steps nobody reads it, and it is half as large in fp16. NumPy
has no bf16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from zoo.precision.source import Conversion, tools
from zoo.tasks import caching
from zoo.tracing import quiet

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, TensorProto


def fp16() -> Conversion:
    """Weights, activations and a cache in float16; what overflows there is clipped, as the converter does."""

    def convert(model: ModelProto, left_out: frozenset[str]) -> ModelProto:
        sides = (*model.graph.input, *model.graph.output)
        return _convert(model, left_out, keep=[value.name for value in sides if not caching.is_cache(value.name)])

    return convert


def bf16() -> Conversion:
    """The same graph in bfloat16, which has float32's range: weights are rounded from float32, not from float16."""

    def convert(model: ModelProto, left_out: frozenset[str]) -> ModelProto:
        import onnx

        exact = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        converted = _convert(model, left_out)
        for tensor in converted.graph.initializer:
            _rounded(tensor, exact.get(tensor.name))
        for node in converted.graph.node:
            for attribute in node.attribute:
                _retyped(attribute, is_cast=node.op_type == "Cast")
        del converted.graph.value_info[:]
        return converted

    return convert


def _convert(model: ModelProto, left_out: frozenset[str], *, keep: list[str] | Literal[True] = True) -> ModelProto:
    """keep: inputs and outputs that stay fp32; all of them for True."""
    with tools():
        from onnxruntime.transformers.float16 import convert_float_to_float16

    convert: Callable[..., Any] = convert_float_to_float16
    with quiet("root"):
        # Types are in the graph already: inference would need the weights in one message.
        converted: ModelProto = convert(
            model, keep_io_types=keep, disable_shape_infer=True, node_block_list=sorted(left_out | _ill_fated(model))
        )
    _made_once(converted)
    return converted


def _ill_fated(model: ModelProto) -> frozenset[str]:
    """Transposes that move the batch and go into a matrix product: opening the graph on a CPU would end the process.

    There ONNX Runtime (1.31) puts a Cast between the two, and fuses all three without having looked for it.
    """
    into = {name for node in model.graph.node if node.op_type == "MatMul" for name in node.input}
    return frozenset(
        node.name
        for node in model.graph.node
        if node.op_type == "Transpose"
        and node.output[0] in into
        and any(list(attribute.ints)[:1] not in ([], [0]) for attribute in node.attribute)
    )


def _made_once(model: ModelProto) -> None:
    """Of a value that several operators take in fp32 the converter makes as many casts, all of one name."""
    seen: set[str] = set()
    again = []
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Cast" and node.output[0] in seen:
            again.append(place)
        seen.update(node.output)
    for place in reversed(again):
        del model.graph.node[place]


def _rounded(tensor: TensorProto, exact: Any) -> None:
    import ml_dtypes
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT16:
        return
    numbers = exact if exact is not None else onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(numbers.astype(ml_dtypes.bfloat16), tensor.name))


def _retyped(attribute: AttributeProto, *, is_cast: bool) -> None:
    import onnx

    if is_cast and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT16:
        attribute.i = onnx.TensorProto.BFLOAT16
    if attribute.HasField("t"):
        _rounded(attribute.t, None)
