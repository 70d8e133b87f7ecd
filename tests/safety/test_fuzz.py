"""Our own parsers, on whatever comes: plain data, or one error of ours. What was found once stays as an example."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import zoo
from tests.safety import tiny
from zoo.errors import BundleError, SpecError, ZooError
from zoo.plain import load_json, load_yaml
from zoo.runtime.graphs import check_graph
from zoo.spec import ModelSpec
from zoo.strict import read

PIECES = st.sampled_from(
    [
        "a",
        "name",
        ": ",
        "- ",
        "\n",
        "  ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "!!",
        "int ",
        "timestamp ",
        "binary ",
        "<<",
        "? ",
        "|",
        ">",
        "'",
        '"',
        "#",
        "%",
        "@",
        "`",
        "1",
        "2001-99-99",
        "1:60",
        ".inf",
        "~",
        "\t",
        "\x00",
        "�",
        "é",
        "---",
        "=",
        "null",
        "0x",
        "1e999",
        "9" * 5000,
    ]
)
SPEC = tiny.card_of("text")["spec"]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, max_size=30))
@example(pieces=["!!timestamp x"])
@example(pieces=["!!bool x"])
@example(pieces=["2001-99-99"])
@example(pieces=["? [a]"])
@example(pieces=["9" * 5000])
@example(pieces=["a: &a [*a]"])
def test_any_text_is_yaml_or_a_spec_error(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        ModelSpec.parse(text, where="it")
    except SpecError as error:
        message = str(error)
        assert "it" in message
    try:
        load_yaml(text, where="it")
    except SpecError as error:
        message = str(error)
        assert "it is not readable YAML" in message


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 100_000)
@example(content=b"9" * 5000)
def test_any_bytes_are_json_or_a_value_error(content: bytes) -> None:
    try:
        load_json(content)
    except ValueError:
        return


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(sorted(ModelSpec.__struct_fields__)), value=VALUES)
def test_any_value_of_a_spec_is_a_spec_or_a_spec_error(key: str, value: object) -> None:
    try:
        read(ModelSpec, {**SPEC, key: value}, where="it")
    except SpecError as error:
        message = str(error)
        assert "it is not valid" in message


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200))
@example(content=b"\x3a\x02\x0a\x00")
def test_any_bytes_are_a_graph_or_a_bundle_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(content)
        try:
            check_graph(path)
        except BundleError as error:
            message = str(error)
            assert "model.onnx" in message


EDIT = st.tuples(
    st.sampled_from(["zoo.yaml", "model.onnx", "tokenizer.json", "manifest.json"]),
    st.sampled_from(["set", "cut", "insert", "double"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=4),
)


def edited(content: bytes, how: str, place: float, piece: bytes) -> bytes:
    at = int(place * len(content))
    if how == "set":
        return content[:at] + piece + content[at + len(piece) :]
    if how == "cut":
        return content[:at]
    return content[:at] + (piece if how == "insert" else content[:at]) + content[at:]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=3), sealed=st.booleans())
def test_any_edit_of_a_bundle_is_answered_or_an_error_of_ours(
    whole: dict[str, Path], edits: list[tuple[str, str, float, bytes]], sealed: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "a")
        shutil.copytree(whole["text"], folder)
        for name, how, at, piece in edits:
            path = folder / name
            path.write_bytes(edited(path.read_bytes(), how, at, piece))
        if sealed:
            tiny.seal(folder)
        try:
            answer = zoo.runtime.load(folder).predict("some words")
        except ZooError:
            return
        assert answer.label
