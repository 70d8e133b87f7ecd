"""Graphs that name other files, other code, or sizes that they do not have: one BundleError, before they are run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import zoo
from tests.safety import tiny
from tests.safety.tiny import FLOAT, INT64, ints, model_of, value
from zoo import bundle
from zoo.errors import BundleError
from zoo.runtime.graphs import check_graph

Change = Callable[[ModelProto], Any]


def answers(folder: Path, kind: str) -> Any:
    return zoo.runtime.load(folder).predict(tiny.SAMPLES[kind])


def refused(folder: Path, kind: str = "text") -> str:
    tiny.seal(folder)
    with pytest.raises(BundleError) as caught:
        answers(folder, kind)
    return str(caught.value)


@pytest.mark.parametrize("kind", tiny.GRAPHS)
def test_the_whole_bundle_answers(whole: dict[str, Path], kind: str) -> None:
    assert answers(whole[kind], kind).label in tiny.LABELS


# ------------------------------------------------------------------------------------------ weights in other files


def outside(model: ModelProto, location: str, *, name: int = 0, **more: Any) -> ModelProto:
    """An initializer of the graph that is in another file."""
    tensor = model.graph.initializer[name]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, said in {"location": location, "offset": "0", "length": "2400", **more}.items():
        tensor.external_data.add(key=key, value=str(said))
    return model


LOCATIONS = [
    "../secret.bin", "../../secret.bin", "sub/../../secret.bin", "./weights.bin", "sub/weights.bin", "/etc/passwd",
    "//etc/passwd", "/proc/self/environ", "/dev/zero", "/dev/urandom", "..", ".", "", "~/.ssh/id_rsa", "..\\secret.bin",
    "C:\\Windows\\win.ini", "\\\\host\\share\\x", "file:///etc/passwd", "https://example.org/x", "weights.bin\0../x",
    "*/_ORT_MEM_ADDR_/*", "%2e%2e/secret.bin", "w" * 300, "weights.bin/", "absent.bin", "$HOME/x", "\ud7ff" * 90,
]  # fmt: skip


@pytest.mark.parametrize("location", LOCATIONS, ids=ascii)
def test_weights_elsewhere(whole: dict[str, Path], tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(2400))
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / "weights.bin").write_bytes(bytes(2400))
    (folder / bundle.GRAPH).write_bytes(outside(tiny.text_graph(), location).SerializeToString())
    refused(folder)


RANGES = [
    {"offset": "-1"}, {"offset": "2400"}, {"offset": "1"}, {"length": "4800"}, {"length": "-1", "offset": "100"},
    {"length": "100"}, {"offset": "9223372036854775807"}, {"offset": "18446744073709551615"}, {"offset": "x"},
    {"offset": "1" * 5000}, {"length": "1e3"}, {"length": "0x960"}, {"length": ""},
]  # fmt: skip


@pytest.mark.parametrize("said", RANGES, ids=str)
def test_weights_beyond_their_file(whole: dict[str, Path], tmp_path: Path, said: dict[str, str]) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / "weights.bin").write_bytes(bytes(2400))
    (folder / bundle.GRAPH).write_bytes(outside(tiny.text_graph(), "weights.bin", **said).SerializeToString())
    refused(folder)


def linked(folder: Path, secret: Path) -> None:
    os.link(secret, folder / "weights.bin")


def symlinked(folder: Path, secret: Path) -> None:
    (folder / "weights.bin").symlink_to(secret)


def piped(folder: Path, secret: Path) -> None:
    os.mkfifo(folder / "weights.bin")


def nested(folder: Path, secret: Path) -> None:
    (folder / "weights.bin").mkdir()


def device(folder: Path, secret: Path) -> None:
    (folder / "weights.bin").symlink_to("/dev/zero")


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("place", [linked, symlinked, piped, nested, device])
def test_weights_that_are_no_file_of_the_bundle(
    whole: dict[str, Path], tmp_path: Path, place: Callable[[Path, Path], None], verify: bool
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(2400))
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / bundle.GRAPH).write_bytes(outside(tiny.text_graph(), "weights.bin").SerializeToString())
    if place is not piped:  # which would be hashed for ever
        place(folder, secret)
    tiny.seal(folder)
    if place is piped:
        place(folder, secret)
    with pytest.raises(BundleError):
        zoo.runtime.load(folder, verify=verify)


def test_weights_beside_the_graph_are_read(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    model = tiny.text_graph()
    (folder / "weights.bin").write_bytes(bytes(8) + model.graph.initializer[0].raw_data)
    (folder / bundle.GRAPH).write_bytes(outside(model, "weights.bin", offset=8).SerializeToString())
    tiny.seal(folder)
    assert answers(folder, "text") == answers(whole["text"], "text")


def test_many_weights_of_one_place(whole: dict[str, Path], tmp_path: Path) -> None:
    """A thousand times the same megabyte is a gigabyte."""
    folder = tiny.copy(whole["text"], tmp_path / "a")
    model = tiny.text_graph()
    (folder / "weights.bin").write_bytes(bytes(1 << 20))
    for index in range(1000):
        tensor = model.graph.initializer.add(name=f"w{index}", data_type=FLOAT, dims=[1 << 18])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
    (folder / bundle.GRAPH).write_bytes(model.SerializeToString())
    assert "which is smaller" in refused(folder)


# ---------------------------------------------------------------------------------------------- sizes and operators


def dims(*sides: int, kind: int = FLOAT, **data: Any) -> Change:
    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.Clear()
        tensor.MergeFrom(TensorProto(name="words", data_type=kind, dims=sides, **data))

    return change


def node(operator: str, inputs: list[str], *, domain: str = "", **attributes: Any) -> Change:
    def change(model: ModelProto) -> None:
        model.graph.node.append(helper.make_node(operator, inputs, ["unused"], domain=domain, **attributes))

    return change


def sized(operator: str, *numbers: int, before: list[str] | None = None, constant: bool = False) -> Change:
    def change(model: ModelProto) -> None:
        if constant:
            model.graph.node.append(helper.make_node("Constant", [], ["big"], value=ints("", list(numbers))))
        else:
            model.graph.initializer.append(ints("big", list(numbers)))
        model.graph.node.append(helper.make_node(operator, [*(before or []), "big"], ["huge"]))
        model.graph.node.append(helper.make_node("ReduceSum", ["huge"], ["total"]))
        model.graph.output.append(value("total", FLOAT))

    return change


def looping(model: ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["more"]), helper.make_node("Identity", ["x"], ["y"])], "body",
        [value("i", INT64), value("go", TensorProto.BOOL), value("x", FLOAT)],
        [value("more", TensorProto.BOOL), value("y", FLOAT)],
    )  # fmt: skip
    model.graph.node.append(helper.make_node("Loop", ["", "", "logits"], ["forever"], body=body))


def nested_graphs(model: ModelProto) -> None:
    body = helper.make_graph([], "leaf", [], [value("x", FLOAT)])
    for _ in range(20):
        node = helper.make_node("If", ["c"], ["x"], then_branch=body)
        body = helper.make_graph([node], "g", [], [value("x", FLOAT)])
    model.graph.node.append(body.node[0])


def functions(model: ModelProto) -> None:
    """Each calls the one before it twice: a billion operators, written out."""
    for index in range(30):
        inner = "Identity" if not index else f"f{index - 1}"
        calls = [helper.make_node(inner, ["x"], ["y"], domain="" if not index else "bomb") for _ in range(2)]
        opset = [helper.make_opsetid("", 18), helper.make_opsetid("bomb", 1)]
        model.functions.append(helper.make_function("bomb", f"f{index}", ["x"], ["y"], calls, opset))
    model.opset_import.append(helper.make_opsetid("bomb", 1))
    model.graph.node.append(helper.make_node("f29", ["logits"], ["boom"], domain="bomb"))


def sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, dtype=np.float32), "sparse")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, ints("", [0]), [1 << 40]))


def attribute_tensor(model: ModelProto) -> None:
    lie = TensorProto(data_type=FLOAT, dims=[1 << 40], raw_data=b"1234")
    model.graph.node.append(helper.make_node("Constant", [], ["lie"], value=lie))


def hidden_in_a_branch(model: ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Evil", [], ["x"], domain="evil")], "g", [], [value("x", FLOAT)])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner))


def external_in_an_attribute(model: ModelProto) -> None:
    lie = TensorProto(data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    lie.external_data.add(key="location", value="../secret.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["lie"], value=lie))


GRAPHS: dict[str, Change] = {
    "a petabyte": dims(1 << 40, 256, raw_data=b"1234"),
    "a product beyond 64 bits": dims(1 << 40, 1 << 40, 1 << 40, raw_data=b"1234"),
    "a product of zero modulo 64 bits": dims(1 << 32, 1 << 32, raw_data=b""),
    "a negative side": dims(-300, 2, raw_data=bytes(2400)),
    "two negative sides": dims(-300, -2, raw_data=bytes(2400)),
    "too few bytes": dims(300, 2, raw_data=bytes(2399)),
    "too many bytes": dims(300, 2, raw_data=bytes(2401)),
    "no bytes": dims(300, 2),
    "a gigabyte of no bytes": dims(1 << 28),
    "a gigabyte of one float": dims(1 << 28, float_data=[1.0]),
    "two data fields": dims(300, 2, raw_data=bytes(4), float_data=[0.0] * 600),
    "an unknown type": dims(300, 2, kind=99, raw_data=bytes(2400)),
    "no type": dims(300, 2, kind=0, raw_data=bytes(2400)),
    "strings that are not there": dims(1 << 30, kind=TensorProto.STRING, string_data=[b"x"]),
    "a thousand sides": dims(*([1] * 1000), raw_data=bytes(4)),
    "a huge attribute": attribute_tensor,
    "a sparse giant": sparse,
    "an operator of nobody": node("Evil", ["logits"], domain="evil"),
    "an operator of Python": node("PyOp", ["logits"], domain="ai.onnx.contrib"),
    "an operator of torch": node("aten_add", ["logits"], domain="pkg.onnxscript.torch_lib"),
    "an operator of a library": node("Load", ["logits"], domain="com.evil", library="/tmp/evil.so"),
    "an operator that does not exist": node("NoSuchOperator", ["logits"]),
    "an operator within a branch": hidden_in_a_branch,
    "a compiled context": node("EPContext", ["logits"], domain="com.microsoft", ep_cache_context="../evil.bin"),
    "a library's own container": node("Snpe", ["logits"], domain="com.microsoft", DLC="x"),
    "a generation of its own": node("GreedySearch", ["logits"], domain="com.microsoft"),
    "a loop": looping,
    "graphs in graphs": nested_graphs,
    "functions that call each other": functions,
    "weights of an attribute elsewhere": external_in_an_attribute,
    "sixteen gigabytes of zeros": sized("ConstantOfShape", 1 << 32),
    "zeros by several sides": sized("ConstantOfShape", 1 << 16, 1 << 16),
    "zeros by a constant": sized("ConstantOfShape", 1 << 32, constant=True),
    "a negative number of zeros": sized("ConstantOfShape", -(1 << 40)),
    "an expanded vector": sized("Expand", 1 << 32, 1, 2, before=["logits"]),
    "a tiled vector": sized("Tile", 1 << 20, 1 << 20, before=["logits"]),
    "an input that is not there": node("Identity", ["nowhere"]),
    "no graph": lambda model: model.ClearField("graph"),
    "no nodes": lambda model: model.graph.ClearField("node"),
    "no inputs": lambda model: model.graph.ClearField("input"),
    "no outputs": lambda model: model.graph.ClearField("output"),
    "no version": lambda model: model.ClearField("opset_import"),
    "a version of the future": lambda model: setattr(model.opset_import[0], "version", 9999),
    "another input": lambda model: model.graph.input.append(value("more", FLOAT, "b")),
    "another output": lambda model: model.graph.output.append(value("kept", FLOAT)),
    "another name": lambda model: setattr(model.graph.output[0], "name", "kept"),
    "an output of two nodes": lambda model: model.graph.node.append(model.graph.node[-1]),
    "an index beyond the end": lambda model: model.graph.node.append(
        helper.make_node("Gather", ["logits", "tokens"], ["y"], axis=7)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_hostile_graph(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    model = tiny.text_graph()
    GRAPHS[name](model)
    (folder / bundle.GRAPH).write_bytes(model.SerializeToString())
    refused(folder)


# Graphs that are right in themselves, and answer with something else than their card says.
LOGITS: dict[str, tuple[list[Any], list[TensorProto]]] = {
    "of another rank": ([helper.make_node("ReduceSum", ["input_ids"], ["s"], keepdims=0)], []),
    "of one row": ([helper.make_node("Identity", ["row"], ["s"])], [ints("row", [[1, 2]])]),
    "of more columns": ([helper.make_node("Identity", ["row"], ["s"])], [ints("row", [[1, 2, 3]])]),
    "of no rows": ([helper.make_node("Identity", ["row"], ["s"])], [ints("row", np.zeros((0, 2)))]),
    "that fail in running": ([helper.make_node("Reshape", ["input_ids", "row"], ["s"])], [ints("row", [7, 11])]),
    "by an index out of range": ([helper.make_node("Gather", ["few", "input_ids"], ["s"])], [ints("few", [1, 2])]),
    "by dividing by zero": (
        [helper.make_node("Sub", ["input_ids", "input_ids"], ["z"]), helper.make_node("Div", ["row", "z"], ["d"]),
         helper.make_node("ReduceMax", ["d"], ["s"], keepdims=0)],
        [ints("row", [1])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in LOGITS if "zero" not in name])
def test_answers_of_another_shape(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    nodes, constants = LOGITS[name]
    inputs = [value("input_ids", INT64, "b", "t"), value("attention_mask", INT64, "b", "t")]
    last = helper.make_node("Cast", ["s"], ["logits"], to=FLOAT)
    model = model_of([*nodes, last], constants, inputs, [value("logits", FLOAT)])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / bundle.GRAPH).write_bytes(model.SerializeToString())
    tiny.seal(folder)
    with pytest.raises(BundleError):
        zoo.runtime.load(folder).predict(["one", "two of them"], batch_size=2)


# --------------------------------------------------------------------------------------------------------- raw bytes

RAW: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "one byte": lambda _: b"\x08",
    "zeros": lambda _: bytes(500),
    "ones": lambda _: b"\xff" * 500,
    "text": lambda _: b"not a graph at all",
    "a pickle": lambda _: b"\x80\x04cos\nsystem\n(S'touch /tmp/hacked'\ntR.",
    "a zip": lambda _: b"PK\x03\x04" + bytes(100),
    "an ORT file": lambda _: bytes([28, 0, 0, 0]) + b"ORTM" + bytes(100),
    "half of it": lambda whole: whole[: len(whole) // 2],
    "all but a byte": lambda whole: whole[:-1],
    "twice": lambda whole: whole + whole,
    "an endless number": lambda whole: b"\x08" + b"\xff" * 11,
    "a length beyond the end": lambda whole: b"\x3a\xff\xff\xff\xff\x0f" + whole,
    "groups": lambda whole: b"\x0b" * 1000,
    "a graph that is a number": lambda _: b"\x38\x01",
    "millions of fields": lambda whole: whole + b"\x08\x0a" * 1_100_000,
}


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_no_graph(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / bundle.GRAPH).write_bytes(RAW[name](tiny.text_graph().SerializeToString()))
    refused(folder)


def test_a_graph_larger_than_a_message(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    with (folder / bundle.GRAPH).open("r+b") as file:
        file.truncate(1 << 31)
    with pytest.raises(BundleError, match="is a hole"):
        check_graph(folder / bundle.GRAPH)


@pytest.mark.parametrize("change", range(60))
def test_a_byte_changed(whole: dict[str, Path], tmp_path: Path, change: int) -> None:
    """Whatever it makes of the graph: an answer, or a BundleError."""
    generator = np.random.default_rng(change)
    content = bytearray(tiny.text_graph().SerializeToString())
    for place in generator.integers(len(content), size=1 + change % 4):
        content[place] = generator.integers(256)
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / bundle.GRAPH).write_bytes(content)
    tiny.seal(folder)
    try:
        answers(folder, "text")
    except BundleError as error:
        message = str(error)
        assert str(folder) in message
