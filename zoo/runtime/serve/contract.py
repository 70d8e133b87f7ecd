"""Tensors that a client gives, held to the graph's contract and to the server's limits before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.bundle import TensorSpec
from zoo.runtime.serve.refusals import Refusal
from zoo.runtime.serve.settings import Limits
from zoo.runtime.serve.shelf import Loaded
from zoo.runtime.serve.tensors import DATATYPES, Tensor
from zoo.spec import AudioInput, TextInput


def check_tensors(loaded: Loaded, given: Sequence[Tensor], limits: Limits) -> None:
    """Raises Refusal: 400 for tensors that are not the graph's, 413 for more rows or longer ones than allowed."""
    if loaded.graph is None:
        raise Refusal(400, f"This bundle has several graphs: give its raw input {loaded.reader.kind!r}, of BYTES.")
    inputs = {item.name: item for item in loaded.graph[0]}
    if {item.name for item in given} != set(inputs):
        raise Refusal(400, f"The inputs are: {', '.join(inputs)}; or {loaded.reader.kind!r}, of BYTES, alone.")
    for tensor in given:
        _check(tensor, inputs[tensor.name])
    axes = [(axis, size) for t in given for axis, size in zip(inputs[t.name].shape, t.shape, strict=True)]
    sizes = {axis: size for axis, size in axes if isinstance(axis, str)}
    if any(sizes[axis] != size for axis, size in axes if isinstance(axis, str)):
        raise Refusal(400, "The inputs differ in an axis that they have in common.")
    rows = given[0].shape[0]
    if rows > limits.max_rows:
        raise Refusal(413, f"{rows} rows came; up to {limits.max_rows} are taken in one request.")
    longest = _longest(loaded, limits)
    if any(size > longest for axis, size in sizes.items() if axis != "batch"):
        raise Refusal(413, f"A row is longer than the {longest} that are taken.")


def _check(tensor: Tensor, stated: TensorSpec) -> None:
    expected = DATATYPES[stated.dtype]
    if tensor.datatype != expected:
        raise Refusal(400, f"{tensor.name} is of {expected}, and {tensor.datatype} came.")
    fits = len(tensor.shape) == len(stated.shape) and all(
        size == axis if isinstance(axis, int) else size > 0
        for axis, size in zip(stated.shape, tensor.shape, strict=True)
    )
    if not fits:
        shape = [axis if isinstance(axis, int) else -1 for axis in stated.shape]
        raise Refusal(400, f"{tensor.name} has the shape {shape}, and {list(tensor.shape)} came.")


def _longest(loaded: Loaded, limits: Limits) -> int:
    """Of an axis that a graph leaves open: tokens that the model sees, or samples."""
    given = loaded.model.spec.input
    if isinstance(given, TextInput):
        return given.max_length
    if isinstance(given, AudioInput):
        return int(min(limits.max_seconds, given.max_seconds) * given.sampling_rate)
    return limits.max_characters
