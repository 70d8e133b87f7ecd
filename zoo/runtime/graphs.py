"""What an ONNX file says of itself, read before ONNX Runtime opens it: it may name no file but those beside it, no
operator of another library and no size that its bytes do not have.

The file is gone through as protobuf, without the onnx package, which serving does not need. Field numbers are those of
`onnx.proto`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, final

from zoo.errors import BundleError
from zoo.manifest import inside

_Value: TypeAlias = int | memoryview
_Fields: TypeAlias = dict[int, list[_Value]]

_MOST_BYTES = (1 << 31) - 1  # of one protobuf message
_MOST_FIELDS = 1_000_000  # a large model has some ten thousand
_MOST_SIDES = 64  # of a tensor
_DEEPEST = 16  # graphs within graphs
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
# Loops end when their data says so; the others load files of their own, or write whole texts by themselves.
_REFUSED = (
    "Loop", "EPContext", "Snpe", "BeamSearch", "WhisperBeamSearch", "GreedySearch", "Sampling",
)  # fmt: skip
# Bits of one element, by `TensorProto.DataType`. Strings (8) have none.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
_INT64 = 7
_RAW, _EXTERNAL = 9, 13
_TYPED = (4, 5, 6, 7, 10, 11)  # the fields that hold elements one by one
# Operators whose output is as large as an input says, and which input says it.
_SIZED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Resize": 3, "OneHot": 1}
_MOST_ELEMENTS = 1 << 28
# What weights beside the graph may add up to, in multiples of their file: layers may share one place.
_SHARED, _SLACK = 4, 1 << 28


def check_graph(path: Path) -> int:
    """Raises BundleError for an ONNX file that is no graph of tensors and known operators on its own bytes and on
    files of its own folder. Returns the bytes of the file and of those beside it that it names."""
    size = inside(path.parent, path.name, most=_MOST_BYTES).stat().st_size
    try:
        with path.open("rb") as file:
            # Closed with its last view, which an error's traceback may hold.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return size + _Check(path).model(memoryview(content))
    # An empty file can't be mapped; the rest is what a damaged message leads to.
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: it is no ONNX graph ({error}).") from error


@final
class _Check:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = _MOST_FIELDS
        # Of each file beside the graph: its bytes, and those that the weights in it add up to.
        self._files: dict[str, int] = {}
        self._taken: dict[str, int] = {}

    def model(self, view: memoryview) -> int:
        """Returns the bytes of the files beside the graph."""
        fields = self.fields(view, 7, 25)
        if len(fields.get(7, ())) != 1:
            raise ValueError("it has no graph, or several")
        if fields.get(25):
            # Called twice each, thirty of them are a billion operators.
            raise self._refused("has functions of its own")
        self.graph(_message(fields[7][0]), 0)
        for name, taken in self._taken.items():
            if taken > max(_SHARED * self._files[name], _SLACK):
                raise self._refused(f"has weights of {taken:,} bytes in {name}, which is smaller")
        return sum(self._files.values())

    def graph(self, view: memoryview, depth: int) -> None:
        if depth > _DEEPEST:
            raise self._refused(f"has graphs nested more than {_DEEPEST} deep")
        fields = self.fields(view, 1, 5, 15)
        known: dict[str, tuple[int, ...]] = {}
        for item in fields.get(5, ()):
            tensor = self.fields(_message(item))
            self.tensor(tensor)
            known[_text(tensor, 8)] = _integers(tensor)
        for item in fields.get(15, ()):
            self.sparse(_message(item))
        for item in fields.get(1, ()):
            self.node(self.fields(_message(item), 1, 2, 4, 5, 7), known, depth)

    def node(self, fields: _Fields, known: dict[str, tuple[int, ...]], depth: int) -> None:
        operator, domain = _text(fields, 4), _text(fields, 7)
        if domain not in _DOMAINS:
            raise self._refused(f"uses the operator {operator!r} of {domain!r}, which only code of another could run")
        if operator in _REFUSED:
            raise self._refused(f"uses the operator {operator!r}, which no exported model needs")
        for item in fields.get(5, ()):
            attribute = self.fields(_message(item))
            for tensor in (*attribute.get(5, ()), *attribute.get(10, ())):
                found = self.fields(_message(tensor))
                self.tensor(found)
                if operator == "Constant" and fields.get(2):
                    known[_decoded(fields[2][0])] = _integers(found)
            for graph in (*attribute.get(6, ()), *attribute.get(11, ())):
                self.graph(_message(graph), depth + 1)
            for sparse in (*attribute.get(22, ()), *attribute.get(23, ())):
                self.sparse(_message(sparse))
        self.output(operator, [_decoded(name) for name in fields.get(1, ())], known)

    def output(self, operator: str, inputs: list[str], known: Mapping[str, tuple[int, ...]]) -> None:
        """Where constants say how large an output is."""
        place = _SIZED.get(operator)
        if place is None or place >= len(inputs):
            return
        size = math.prod(max(abs(side), 1) for side in known.get(inputs[place], ()))
        if size > _MOST_ELEMENTS:
            raise self._refused(f"makes {size:,} numbers out of nothing, by the operator {operator!r}")

    def sparse(self, view: memoryview) -> None:
        fields = self.fields(view)
        for item in (*fields.get(1, ()), *fields.get(2, ())):
            self.tensor(self.fields(_message(item)))
        if math.prod(_numbers(fields, 3)) > _MOST_ELEMENTS:
            raise self._refused("has a sparse tensor that is too large written out")

    def tensor(self, fields: _Fields) -> None:
        """A tensor has as many bytes as its shape says, here or in a file beside the graph."""
        name, dims, kind = _text(fields, 8), _numbers(fields, 1), _number(fields, 2)
        elements = math.prod(dims)
        if any(side >> 63 for side in dims):
            raise self._refused(f"has a tensor {name!r} with a negative side")
        if kind == 8:
            fits = len(fields.get(6, ())) == elements
        elif kind not in _BITS:
            raise self._refused(f"has a tensor {name!r} of the unknown type {kind}")
        elif _number(fields, 14) or fields.get(_EXTERNAL):
            fits = self.external(name, fields) == _bytes_of(elements, kind)
        elif fields.get(_RAW):
            fits = len(_message(fields[_RAW][-1])) == _bytes_of(elements, kind)
        else:
            # Eight elements at most in a byte of these.
            room = sum(
                len(item) if isinstance(item, memoryview) else 8 for key in _TYPED for item in fields.get(key, ())
            )
            fits = elements <= 8 * room
        if not fits:
            raise self._refused(f"has a tensor {name!r} of shape {dims}, and other bytes than that")

    def external(self, name: str, fields: _Fields) -> int:
        """The length in bytes that a tensor has in another file, which is there and has it."""
        said = {}
        for item in fields.get(_EXTERNAL, ()):
            pair = self.fields(_message(item))
            said[_text(pair, 1)] = _text(pair, 2)
        place = said.get("location", "")
        if not place or "/" in place or "\\" in place:
            raise self._refused(f"has the weights {name!r} at {place!r}; they may only be in a file beside it")
        if place not in self._files:
            self._files[place] = inside(self.path.parent, place).stat().st_size
        size = self._files[place]
        offset, length = _whole(said.get("offset", "0")), _whole(said.get("length", "-1"))
        if length < 0:
            length = max(size - offset, 0)
        if offset < 0 or offset + length > size:
            raise self._refused(f"has the weights {name!r} beyond the end of {place}")
        self._taken[place] = self._taken.get(place, 0) + length
        return length

    def fields(self, view: memoryview, *wanted: int) -> _Fields:
        """The fields of a protobuf message by their numbers, the wanted ones or all: integers, or bytes for what has a
        length. Raises ValueError, IndexError."""
        found: _Fields = {}
        place, end = 0, len(view)
        while place < end:
            key, place = view[place], place + 1
            if key >= 0x80:  # a number above 15
                key, place = _varint(view, place - 1)
            number, wire = key >> 3, key & 7
            value: _Value
            if wire == 0:
                value, place = _varint(view, place)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
                value, place = view[place : place + size], place + size
            elif wire == 2:
                size, place = _varint(view, place)
                value, place = view[place : place + size], place + size
            else:
                raise ValueError(f"a field of the kind {wire}")
            if place > end:
                raise ValueError("a field goes on beyond the end")
            self._left -= 1
            if self._left < 0:
                raise self._refused(f"has more than {_MOST_FIELDS:,} parts")
            if not wanted or number in wanted:
                found.setdefault(number, []).append(value)
        return found

    def _refused(self, fault: str) -> BundleError:
        return BundleError(f"{self.path} was not opened: it {fault}.")


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _decoded(value: _Value) -> str:
    return bytes(_message(value)).decode("utf-8")


def _text(fields: _Fields, number: int) -> str:
    values = fields.get(number)
    return _decoded(values[-1]) if values else ""


def _number(fields: _Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise ValueError("bytes where a number should be")
    return value


def _numbers(fields: _Fields, number: int, most: int = _MOST_SIDES) -> list[int]:
    """Repeated integers, packed into one field or each in its own."""
    found: list[int] = []
    for value in fields.get(number, ()):
        if isinstance(value, int):
            found.append(value)
            continue
        place = 0
        while place < len(value) and len(found) <= most:
            item, place = _varint(value, place)
            found.append(item)
    if len(found) > most:
        raise ValueError(f"more than {most} numbers")
    return found


def _integers(fields: _Fields) -> tuple[int, ...]:
    """The values of a small tensor of int64; empty for any other."""
    if _number(fields, 2) != _INT64 or math.prod(_numbers(fields, 1)) > 16:
        return ()
    if fields.get(_RAW):
        raw = bytes(_message(fields[_RAW][-1]))
        return tuple(int.from_bytes(raw[i : i + 8], "little", signed=True) for i in range(0, len(raw), 8))
    return tuple(item - (1 << 64) if item >> 63 else item for item in _numbers(fields, 7))


def _bytes_of(elements: int, kind: int) -> int:
    return (elements * _BITS[kind] + 7) // 8


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError("an offset or a length of too many digits")
    return int(text)
