"""Weights in int8 by blocks, in a file beside a graph, as ONNX Runtime's `MatMulNBits` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from zoo.modalities.base import Array

STEPS = 127  # of int8 on either side of 0
_ROWS = 4096  # that are rounded at a time
_PAGE = 4096


class Place(NamedTuple):
    """Where an array lies in the file."""

    shape: tuple[int, ...]
    offset: int
    length: int


class Rounded(NamedTuple):
    """rounded: uint8 `[N, K / block, block]`, 128 for 0. steps: float32 `[N, K / block]`, what one of them stands for.

    spread: of each block, the largest sum of a row's absolute weights there, in its own steps: float32 `[K / block]`.
    """

    rounded: Place
    steps: Place
    spread: Array


def write(weights: Array, file: BinaryIO, block: int) -> Rounded:
    """Weights `[N, K]`, float32, K a multiple of the block, at the end of a file."""
    rows, width = weights.shape
    blocks = width // block
    steps = np.empty((rows, blocks), dtype=np.float32)
    spread = np.zeros(blocks, dtype=np.float32)
    begun = _aligned(file)
    for start in range(0, rows, _ROWS):
        part = np.ascontiguousarray(weights[start : start + _ROWS]).reshape(-1, blocks, block)
        step = np.abs(part).max(axis=-1) / np.float32(STEPS)
        rounded = np.rint(part / np.where(step > 0, step, 1)[..., None])
        file.write((rounded + (STEPS + 1)).astype(np.uint8).tobytes())
        steps[start : start + _ROWS] = step
        spread = np.maximum(spread, np.abs(rounded).sum(axis=-1).max(axis=0))
    size = file.tell() - begun
    place = _aligned(file)
    file.write(steps.tobytes())
    return Rounded(Place((rows, blocks, block), begun, size), Place((rows, blocks), place, steps.nbytes), spread)


def tensors(found: Rounded, names: tuple[str, str], file: str) -> tuple[Any, Any]:
    """The two arrays of a product, in a file beside the graph."""
    import onnx

    kinds = (onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT)
    made = []
    for name, kind, place in zip(names, kinds, (found.rounded, found.steps), strict=True):
        tensor = onnx.TensorProto(name=name, data_type=kind, dims=place.shape, data_location=onnx.TensorProto.EXTERNAL)
        for key, value in (("location", file), ("offset", place.offset), ("length", place.length)):
            tensor.external_data.add(key=key, value=str(value))
        made.append(tensor)
    return made[0], made[1]


def attributes(rounded: Any) -> dict[str, Any]:
    """Of the product with such weights, uint8 `[N, K / block, block]`: activations are in int8, too."""
    rows, blocks, block = rounded.dims
    return {"K": blocks * block, "N": rows, "bits": 8, "block_size": block, "accuracy_level": 4}


def mapped(tensor: Any, folder: Any, mode: Any = "r") -> Any:
    """A float32 tensor that lies in a file beside its graph."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    place, offset = folder / said["location"], int(said.get("offset", 0))
    return np.memmap(place, np.float32, mode=mode, offset=offset, shape=tuple(tensor.dims))


def _aligned(file: BinaryIO) -> int:
    """Begin a page."""
    file.write(b"\0" * (-file.tell() % _PAGE))
    return file.tell()
