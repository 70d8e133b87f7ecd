"""Tensors of the Open Inference Protocol v2, as JSON and as its binary extension has them.

Source: the protocol's `Inference Request JSON Object`, and `Binary Tensor Data Extension` as Triton documents it.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from zoo.modalities.base import Array
from zoo.runtime.serve.refusals import Refusal

DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}  # of an array, and those of JSON that become it
_DEEPEST = 8  # axes of a tensor
_LENGTH = struct.Struct("<I")


class Tensor(NamedTuple):
    """data: an array, or for BYTES a list of `str` (from JSON) or `bytes`, flat."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any


def read(entry: Any, binary: memoryview | None) -> Tensor:
    """One of a request's `inputs`. binary: its part of the body, where it has one. Raises Refusal (400)."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Refusal(400, "Each of inputs is an object with name, shape, datatype and data.")
    name, datatype = entry["name"], entry.get("datatype")
    if not isinstance(datatype, str) or (datatype != "BYTES" and datatype not in DTYPES):
        raise Refusal(400, f"Input {name[:80]!r}: datatype is one of BYTES, {', '.join(DTYPES)}.")
    shape = _shape(name, entry.get("shape"))
    data: Any
    if binary is not None:
        data = _bytes_of(name, binary) if datatype == "BYTES" else _array_of(name, datatype, shape, binary)
    elif "data" not in entry:
        raise Refusal(400, f"Input {name[:80]!r} has no data.")
    else:
        data = _texts(name, entry["data"]) if datatype == "BYTES" else _from_json(name, datatype, shape, entry["data"])
    if datatype == "BYTES" and len(data) != math.prod(shape):
        raise _miscounted(name, shape, len(data))
    return Tensor(name, datatype, shape, data)


def to_json(tensor: Tensor) -> dict[str, Any]:
    """One of an answer's `outputs`. A number that is not finite, which JSON has not, is null."""
    data = tensor.data if tensor.datatype == "BYTES" else tensor.data.ravel().tolist()
    if tensor.datatype.startswith("FP") and not np.isfinite(tensor.data).all():
        data = [value if math.isfinite(value) else None for value in data]
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data}


def to_binary(tensor: Tensor) -> bytes:
    """The same as bytes: numbers little-endian in row-major order, texts each behind their length as uint32."""
    if tensor.datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(raw)) + raw for raw in (text.encode() for text in tensor.data))
    array: Array = np.ascontiguousarray(tensor.data)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _shape(name: str, given: Any) -> tuple[int, ...]:
    whole = isinstance(given, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in given)
    if not whole or not all(0 <= n < 2**31 for n in given) or len(given) > _DEEPEST:
        raise Refusal(400, f"Input {name[:80]!r}: shape is a list of up to {_DEEPEST} whole numbers.")
    return tuple(given)


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    dtype = np.dtype(DTYPES[datatype])
    try:
        values = np.array(data)
    except (ValueError, OverflowError) as error:
        raise Refusal(400, f"Input {name[:80]!r}: data is no list of numbers, or its rows differ in length.") from error
    if values.size != math.prod(shape) or (values.ndim != 1 and values.shape != shape):
        raise _miscounted(name, shape, values.size)
    if values.size and values.dtype.kind not in _KINDS[dtype.kind]:
        raise Refusal(400, f"Input {name[:80]!r}: data has values that are no {datatype}.")
    if values.size and dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(values.min()) < low or int(values.max()) > high:
            raise Refusal(400, f"Input {name[:80]!r}: data has values beyond {datatype}.")
    return values.astype(dtype).reshape(shape)


def _texts(name: str, data: Any) -> list[str]:
    flat = list(_flat(name, data if isinstance(data, list) else [data]))
    if not all(isinstance(text, str) for text in flat):
        raise Refusal(400, f"Input {name[:80]!r}: data of BYTES is a list of texts.")
    return flat


def _flat(name: str, values: list[Any], depth: int = 1) -> Iterable[Any]:
    if depth > _DEEPEST:
        raise Refusal(400, f"Input {name[:80]!r}: data is nested too deeply.")
    nested = (_flat(name, value, depth + 1) if isinstance(value, list) else [value] for value in values)
    return itertools.chain.from_iterable(nested)


def _array_of(name: str, datatype: str, shape: tuple[int, ...], binary: memoryview) -> Array:
    dtype = np.dtype(DTYPES[datatype]).newbyteorder("<")
    if len(binary) != math.prod(shape) * dtype.itemsize:
        raise Refusal(400, f"Input {name[:80]!r}: {len(binary)} bytes came for {datatype} {list(shape)}.")
    if datatype == "BOOL" and np.frombuffer(binary, dtype=np.uint8).max(initial=0) > 1:
        raise Refusal(400, f"Input {name[:80]!r}: a BOOL is a byte of 0 or 1.")
    return np.frombuffer(binary, dtype=dtype).reshape(shape)


def _bytes_of(name: str, binary: memoryview) -> list[bytes]:
    found: list[bytes] = []
    place = 0
    while place < len(binary):
        end = place + _LENGTH.size
        size = _LENGTH.unpack(binary[place:end])[0] if end <= len(binary) else len(binary)
        if end + size > len(binary):
            raise Refusal(400, f"Input {name[:80]!r}: its bytes end in the middle of an element.")
        found.append(bytes(binary[end : end + size]))
        place = end + size
    return found


def _miscounted(name: str, shape: tuple[int, ...], found: int) -> Refusal:
    return Refusal(400, f"Input {name[:80]!r}: shape is {list(shape)}, and data has {found} elements.")
