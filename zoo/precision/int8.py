"""int8 by ONNX Runtime's quantizer: dynamic (ranges of activations found while it runs), static (found beforehand)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.modalities.base import Array
from zoo.precision.source import Conversion, Source, as_file, tools
from zoo.tracing import quiet

if TYPE_CHECKING:
    from onnx import ModelProto

MATRICES = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv",)
# An embedding's table is most of a small language model.
DYNAMIC = (*MATRICES, "Gather")
# What stands between convolutions: one of them left in float would cost two conversions.
BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "AveragePool", "Concat")
# A processor without VNNI adds pairs of products in 16 bits: weights of 7 bits can't overflow there, and the bundle
# answers the same on every processor.
_SEVEN_BITS = True
# The type of a value whose type inference could not find.
_FLOAT = 1


def dynamic() -> Conversion:
    """Weights of matrix products as int8, one scale a column; embeddings, and activations a batch, as uint8."""

    def convert(model: ModelProto, left_out: frozenset[str]) -> ModelProto:
        with tools():
            from onnxruntime.quantization import QuantType
            from onnxruntime.quantization.quant_utils import QuantizationMode

            from zoo.precision.quantizers import DynamicQuantizer

        _straighten(model, left_out)
        with quiet("root"):
            quantizer = DynamicQuantizer(
                model, True, _SEVEN_BITS, QuantizationMode.IntegerOps, False, QuantType.QInt8, QuantType.QUInt8, None,
                [], sorted(left_out), list(DYNAMIC), {"MatMulConstBOnly": True, "DefaultTensorType": _FLOAT},
            )  # fmt: skip
            quantizer.quantize_model()
        return quantizer.model.model  # type: ignore[no-any-return]

    return convert


def static(operators: Iterable[str], ranges: Any) -> Conversion:
    """Weights and activations as int8 and uint8 between QuantizeLinear and DequantizeLinear, by ranges seen before."""
    chosen = list(operators)

    def convert(model: ModelProto, left_out: frozenset[str]) -> ModelProto:
        with tools():
            from onnxruntime.quantization import QuantType

            from zoo.precision.quantizers import StaticQuantizer

        _straighten(model, left_out)
        with quiet("root"):
            quantizer = StaticQuantizer(
                model, True, _SEVEN_BITS, QuantType.QInt8, QuantType.QUInt8, ranges, [], sorted(left_out), chosen,
                {"DefaultTensorType": _FLOAT, "MatMulConstBOnly": True},
            )  # fmt: skip
            quantizer.quantize_model()
        return quantizer.model.model  # type: ignore[no-any-return]

    return convert


def _straighten(model: ModelProto, left_out: frozenset[str]) -> None:
    """Give each product with an embedding's table turned round, as at the end of most language models, a matrix of its
    own: the quantizer passes over those that are not constants. In int8 the second one is a quarter of the first."""
    from onnx import numpy_helper

    graph = model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    turned = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and len(getattr(tables.get(node.input[0]), "dims", ())) == 2
    }
    for node in graph.node:
        if node.op_type != "MatMul" or node.name in left_out or node.input[1] not in turned:
            continue
        table = numpy_helper.to_array(tables[turned[node.input[1]]])
        name = f"{node.input[1]}_straight"
        if name not in tables:
            matrix = numpy_helper.from_array(np.ascontiguousarray(table.T), name)
            graph.initializer.append(matrix)
            tables[name] = matrix
        node.input[1] = name
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in [node for node in graph.node if node.output and node.output[0] in turned]:
        if node.output[0] not in used:
            graph.node.remove(node)


def ranges_of(source: Source, operators: Iterable[str], batches: Iterable[Mapping[str, Array]]) -> Any:
    """The least and the largest value of every activation of these operators, over real inputs `[B, ...]`."""
    with tools():
        from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches one by one, None at the end: what the calibrator asks for."""

        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self._batches, None)
            return None if batch is None else {name: np.ascontiguousarray(array) for name, array in batch.items()}

    with tempfile.TemporaryDirectory() as temporary, as_file(source, Path(temporary)) as path, quiet("root"):
        calibrator = create_calibrator(
            path,
            list(operators),
            augmented_model_path=str(Path(temporary) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=True,
        )
        calibrator.collect_data(Reader())
        return calibrator.compute_data()
