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
            from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
            from onnxruntime.quantization.quant_utils import QuantizationMode

        with quiet("root"):
            quantizer = ONNXQuantizer(
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
            from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        with quiet("root"):
            quantizer = QDQQuantizer(
                model, True, _SEVEN_BITS, QuantType.QInt8, QuantType.QUInt8, ranges, [], sorted(left_out), chosen,
                {"DefaultTensorType": _FLOAT, "MatMulConstBOnly": True},
            )  # fmt: skip
            quantizer.quantize_model()
        return quantizer.model.model  # type: ignore[no-any-return]

    return convert


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
