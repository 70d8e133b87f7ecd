"""ONNX Runtime's quantizers, which round a weight channel by channel in Python: here all of its channels at once.

The numbers are the same to the last bit. Anything but float32 weights in int8, a scale a channel, is left to upstream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.precision.source import tools

if TYPE_CHECKING:
    from zoo.modalities.base import Array

with tools():
    import onnx
    from onnx import numpy_helper
    from onnxruntime.quantization.base_quantizer import QuantizationParams
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer, QDQQuantTensorType
    from onnxruntime.quantization.quant_utils import get_qmin_qmax_for_qType

_INT8 = onnx.TensorProto.INT8
_ROUNDED = "_quantized"


def scales(weights: Array, axis: int, *, seven_bits: bool) -> Array:
    """float32 `[C]`, what 1 stands for in each channel of float32 weights."""
    least, most = get_qmin_qmax_for_qType(_INT8, reduce_range=seven_bits, symmetric=True)
    others = tuple(side for side in range(weights.ndim) if side != axis)
    largest = np.maximum(weights.max(axis=others), -weights.min(axis=others)).astype(np.float64)
    found = 2 * largest / (float(most) - float(least))
    return np.where(found < np.finfo(np.float32).tiny, 1.0, found).astype(np.float32)


def rounded(weights: Array, axis: int, scale: Array) -> Array:
    """int8, of the weights' shape."""
    whole = weights / scale.reshape([-1 if side == axis else 1 for side in range(weights.ndim)])
    np.rint(whole, out=whole)
    return np.clip(whole, -128, 127, out=whole).astype(np.int8)


def _plain(quantizer: Any, tensor: Any) -> bool:
    """Whether a tensor is of float32 weights that nobody wants otherwise than by default."""
    return (
        tensor is not None
        and tensor.data_type == onnx.TensorProto.FLOAT
        and quantizer.weight_qType == _INT8
        and quantizer.min_real_range is None
        and quantizer.is_weight_symmetric(_INT8)
        and tensor.name not in quantizer.tensor_quant_overrides
    )


class DynamicQuantizer(ONNXQuantizer):  # type: ignore[misc]
    def quantize_weight_per_channel_impl(
        self, weight_name: str, weight_qType: int, channel_axis: int, reduce_range: bool = True, *more: Any
    ) -> Any:
        tensor: Any = next((item for item in self.model.initializer() if item.name == weight_name), None)
        if not _plain(self, tensor) or weight_qType != _INT8 or any(more):
            return super().quantize_weight_per_channel_impl(
                weight_name, weight_qType, channel_axis, reduce_range, *more
            )
        weights = numpy_helper.to_array(tensor)
        axis = channel_axis % weights.ndim
        scale = scales(weights, axis, seven_bits=self.reduce_range and reduce_range)
        found = {
            _ROUNDED: rounded(weights, axis, scale),
            "_zero_point": np.zeros(len(scale), dtype=np.int8),
            "_scale": scale,
        }
        self.model.initializer_extend([numpy_helper.from_array(found[kind], weight_name + kind) for kind in found])
        return tuple(weight_name + kind for kind in found)


class StaticQuantizer(QDQQuantizer):  # type: ignore[misc]
    tensors_to_quantize: dict[str, Any]

    def _calc_initializer_quant_params(self) -> Any:
        everything = self.tensors_to_quantize
        there = {tensor.name: tensor for tensor in self.model.initializer()}
        found = {}
        for name, wanted in everything.items():
            if wanted.axis is None or wanted.tensor_type is not QDQQuantTensorType.WEIGHT:
                continue
            if not _plain(self, there.get(name)):
                continue
            weights = numpy_helper.to_array(there[name])
            axis = wanted.axis % weights.ndim
            scale = scales(weights, axis, seven_bits=self.reduce_range)
            found[name] = QuantizationParams(
                zero_point=np.zeros(len(scale), dtype=np.int8), scale=scale, quant_type=_INT8, axis=axis
            )
        self.tensors_to_quantize = {name: wanted for name, wanted in everything.items() if name not in found}
        try:
            return {**super()._calc_initializer_quant_params(), **found}
        finally:
            self.tensors_to_quantize = everything

    def _add_qdq_nodes_for_initializer(self, weight_proto: Any) -> None:
        name, params = weight_proto.name, self.initializer_quant_params[weight_proto.name]
        axis = params.get("axis")
        if axis is None or not _plain(self, weight_proto) or name in self.quantized_value_map:
            super()._add_qdq_nodes_for_initializer(weight_proto)
            return
        # Upstream puts a pair of nodes behind the weights then, and rounds nothing: the first gives way to its output.
        self.add_qdq_pair_to_weight = True
        try:
            super()._add_qdq_nodes_for_initializer(weight_proto)
        finally:
            self.add_qdq_pair_to_weight = False
        nodes = self.model.graph().node
        weights = rounded(numpy_helper.to_array(weight_proto), axis, params["scale"])
        self.model.add_initializer(numpy_helper.from_array(weights, name + _ROUNDED))
        nodes[-1].input[0] = name + _ROUNDED
        del nodes[-2]
