"""Cards, manifests and folders of somebody else: one BundleError or SpecError, whatever the manifest says."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.safety import tiny
from zoo import bundle, manifest
from zoo.errors import BundleError, ConfigError, SpecError
from zoo.plain import dump_yaml
from zoo.strict import read

Card = dict[str, Any]


def opened(folder: Path, kind: str = "text") -> Any:
    return zoo.runtime.load(folder).predict(tiny.SAMPLES[kind])


# ------------------------------------------------------------------------------------------------ zoo.yaml as text

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
TEXTS: dict[str, str | bytes] = {
    "nothing": "",
    "white space": " \n\t\n",
    "a number": "3",
    "a list": "[1, 2]",
    "text": "no card",
    "not UTF-8": b"\xff\xfe\x00format: 1",
    "UTF-16": "format: 1".encode("utf-16"),
    "NULs": b"\x00" * 100,
    "a billion laughs": "format: 1\n" + LAUGHS,
    "laughs as merges": "format: 1\na: &a {x: 1}\nb: {<<: [" + ", ".join(["*a"] * 50) + "]}\nq: &q {<<: *q}",
    "an alias of itself": "format: 1\nspec: &s [*s]",
    "a mapping of itself": "format: 1\nspec: &s {a: *s}",
    "a chain of aliases": "format: 1\na0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000)),
    "deep lists": "format: 1\nspec: " + "[" * 5_000,
    "deep mappings": "format: 1\nspec: " + "{a: " * 5_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(2000)),
    "deep sequences": "- " * 20_000 + "x",
    "an unclosed quote": 'format: 1\nspec: "' + "x" * 100_000,
    "an object of Python": "format: 1\nspec: !!python/object/apply:os.system ['touch /tmp/hacked']",
    "a module of Python": "!!python/module:antigravity ''",
    "a new object": "!!python/object/new:os._wrap_close [x]",
    "a name of Python": "format: !!python/name:os.system ''",
    "an unknown tag": "format: !evil 1",
    "a date that is none": "format: 2001-99-99",
    "a tagged date": "format: !!timestamp x",
    "a tagged number": "format: !!int x",
    "a tagged float": "format: !!float x",
    "a tagged truth": "format: !!bool x",
    "tagged binary": "format: !!binary '?'",
    "a number of many digits": "format: " + "9" * 100_000,
    "a sexagesimal number": "format: " + "1:" * 2000 + "1",
    "a list as a key": "? [a, b]\n: 1",
    "a mapping as a key": "? {a: 1}\n: 1",
    "a key twice": "format: 1\nformat: 1",
    "two documents": "format: 1\n---\nformat: 1",
    "a directive": "%YAML 9.9\n---\nformat: 1",
    "a tab": "format:\t1\n\tspec: 2",
    "control characters": "format: 1\nzoo: \x01\x02",
    "half a character": b"format: 1\nzoo: \xed\xa0\x80",
    "five megabytes": b"# " + b"x" * (5 << 20),
    "an infinite format": "format: .inf",
    "no number as format": "format: .nan",
    "format 0": "format: 0",
    "format 2": "format: 2",
    "format true": "format: [1]",
    "format as text": "format: '1'",
    "JSON that ends": '{"format": 1,',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_card_that_can_not_be_read(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    said = TEXTS[name]
    (folder / bundle.CARD).write_bytes(said if isinstance(said, bytes) else said.encode())
    tiny.seal(folder)
    with pytest.raises((BundleError, SpecError)) as caught:
        opened(folder)
    assert len(str(caught.value)) < 3000
    with pytest.raises((BundleError, SpecError)):
        zoo.load(folder)


# ------------------------------------------------------------------------------------------------ zoo.yaml as data


def put(path: str, value: Any) -> Callable[[Card], None]:
    def change(card: Card) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            card = card[int(parent)] if isinstance(card, list) else card[parent]
        if isinstance(card, list):
            card[int(last)] = value
        else:
            card[last] = value

    return change


def graphs(**more: Any) -> Callable[[Card], None]:
    part = {"name": "encoder", "file": "encoder.onnx", "inputs": [], "outputs": []}
    return put("graphs", [{**part, **more}])


TEXT_CARDS: dict[str, Callable[[Card], None]] = {
    "an unknown key": put("evil", 1),
    "no kind": lambda card: card.pop("kind"),
    "another kind": put("kind", "virus"),
    "a saved model": put("kind", "model"),
    "an adapter": put("kind", "adapter"),
    "no spec": put("spec", None),
    "a spec that is text": put("spec", "x" * 100_000),
    "a task of nobody": put("task", "os.system"),
    "a task of another modality": put("task", "image-classification"),
    "a task of another input": put("task", "automatic-speech-recognition"),
    "a task that reads another output": put("task", "question-answering"),
    "a task that writes": put("task", "summarization"),
    "a name that leads out": put("spec.name", "../../etc/passwd"),
    "a name that is empty": put("spec.name", ""),
    "a very long name": put("spec.name", "X" * 50_000),
    "a backend of nobody": put("spec.backend", "os"),
    "a million tokens at once": put("spec.input.max_length", 10**12),
    "no tokens at once": put("spec.input.max_length", 0),
    "fewer tokens than nothing": put("spec.input.max_length", -5),
    "an infinite length": put("spec.input.max_length", float("inf")),
    "no number as length": put("spec.input.max_length", float("nan")),
    "a side of nobody": put("spec.input.padding_side", "both"),
    "an input of another kind": put("spec.input", {"kind": "image", "size": [8, 8], "mean": [0] * 3, "std": [1] * 3}),
    "an input of no kind": put("spec.input", {"kind": "file", "path": "/etc/passwd"}),
    "labels that are a mapping": put("spec.labels", {"no": 1}),
    "labels that are deep": put("spec.labels", [[["no"]]] * 3 + [{"a": object}] * 0 + [True]),
    "no labels": put("spec.labels", []),
    "fewer labels than answers": put("spec.labels", ["one"]),
    "a set of labels by name": put("spec.labels", "../../../etc/passwd"),
    "inputs of nobody": put("inputs", [{"name": "x", "dtype": "float32", "shape": []}]),
    "no inputs": put("inputs", []),
    "inputs of another dtype": put("inputs.0.dtype", "float32"),
    "an input more": lambda card: card["inputs"].append({"name": "more", "dtype": "int64", "shape": ["batch"]}),
    "no outputs": put("outputs", []),
    "outputs of another name": put("outputs.0.name", "scores"),
    "outputs of another dtype": put("outputs.0.dtype", "int64"),
    "outputs of another rank": put("outputs.0.shape", ["batch", "length", 2]),
    "outputs of other sides": put("outputs.0.shape", ["batch", 10**9]),
    "outputs of fixed rows": put("outputs.0.shape", [7, 2]),
    "a graph elsewhere": graphs(file="../../evil.onnx"),
    "a graph at an address": graphs(file="https://example.org/evil.onnx"),
    "a graph of another ending": graphs(file="evil.so"),
    "a graph of no name": graphs(name="", file="encoder.onnx"),
    "a graph that is not there": graphs(),
    "one graph of two": graphs(file="model.onnx"),
    "no graphs": put("graphs", []),
    "a thousand graphs": lambda card: card.update(
        graphs=[{"name": "encoder", "file": "model.onnx", "inputs": card["inputs"], "outputs": card["outputs"]}] * 200
    ),
    "a decoder that writes for ever": put("spec.decoder", {"max_length": 10**12}),
    "weights at an address": put("spec.weights", {"repo": "https://example.org/x", "file": "x"}),
    "a history that is none": put("history", "x"),
    "figures that are none": put("parity", {"passed": "yes"}),
}  # fmt: skip
IMAGE_CARDS: dict[str, Callable[[Card], None]] = {
    "a picture of a petabyte": put("spec.input.size", [10**9, 10**9]),
    "a picture of no side": put("spec.input.size", [0, 8]),
    "a picture of less": put("spec.input.size", [-8, 8]),
    "a picture of one side": put("spec.input.size", [8]),
    "a picture of another size": put("spec.input.size", [16, 16]),
    "a crop of nothing": put("spec.input.crop_pct", 0),
    "a crop that is no number": put("spec.input.crop_pct", float("nan")),
    "a filter of nobody": put("spec.input.interpolation", "__import__"),
    "a window of nothing": put("spec.input.window", [5, 5]),
    "a window without end": put("spec.input.window", [0, float("inf")]),
    "two channels": put("spec.input.channels", 2),
    "one channel": put("spec.input.channels", 1),
    "an edge of a billion": put("spec.input.shortest_edge", 10**9),
}
AUDIO_CARDS: dict[str, Callable[[Card], None]] = {
    "a terahertz": put("spec.input.sampling_rate", 10**12),
    "no rate": put("spec.input.sampling_rate", 0),
    "a negative rate": put("spec.input.sampling_rate", -16000),
    "a rate that is no number": put("spec.input.sampling_rate", "fast"),
    "a window of a year": put("spec.input.max_seconds", 3e7),
    "a window without end": put("spec.input.max_seconds", float("inf")),
    "a window of nothing": put("spec.input.max_seconds", 1e-9),
    "a spectrogram of a petabyte": put(
        "spec.input", {"kind": "mel", "sampling_rate": 16000, "layout": "kaldi", "bins": 10**9, "frames": 10**9}
    ),
    "a spectrogram of a terahertz": put(
        "spec.input", {"kind": "mel", "sampling_rate": 10**12, "layout": "whisper", "bins": 80, "frames": 3000}
    ),
}
CARDS = [
    (kind, name, change)
    for kind, changes in (("text", TEXT_CARDS), ("image", IMAGE_CARDS), ("audio", AUDIO_CARDS))
    for name, change in changes.items()
]


@pytest.mark.parametrize(("kind", "name", "change"), CARDS, ids=[f"{kind}-{name}" for kind, name, _ in CARDS])
def test_a_hostile_card(
    whole: dict[str, Path], tmp_path: Path, kind: str, name: str, change: Callable[[Card], None]
) -> None:
    card = copy.deepcopy(tiny.card_of(kind))
    change(card)
    folder = tiny.copy(whole[kind], tmp_path / "a")
    (folder / bundle.CARD).write_text(dump_yaml(card), encoding="utf-8")
    tiny.seal(folder)
    with pytest.raises((BundleError, SpecError, ConfigError)) as caught:
        opened(folder, kind)
    assert len(str(caught.value)) < 3000


def test_a_spec_with_a_thousand_faults_is_a_short_message() -> None:
    card = {**tiny.card_of("text"), **{f"key{i}": i for i in range(1000)}}
    with pytest.raises(SpecError, match=r"and 98. more") as caught:
        read(bundle.Card, card, where="it")
    assert len(str(caught.value)) < 3000


# ----------------------------------------------------------------------------------------------------- the manifest

ODD_NAMES = (
    "../a", "/etc/passwd", "a/../../b", "..", ".", "", "a//b", "a\\b", "x" * 5000, "a\0b", "\ud800", "~",
    "a/" * 3000 + "b",
)  # fmt: skip
ENTRY = {"sha256": "0" * 64, "size": 3}
MANIFESTS: dict[str, Any] = {
    "nothing": "",
    "a list": "[]",
    "deep lists": "[" * 100_000,
    "deep mappings": '{"a":' * 100_000,
    "not UTF-8": b"\xff\xfe{}",
    "a number of many digits": '{"files": ' + "9" * 100_000 + "}",
    "files that are a list": {"format": 1, "files": [["zoo.yaml", ENTRY]]},
    "files that are null": {"format": 1, "files": None},
    "another format": {"format": 2, "files": {}},
    "no files": {"format": 1, "files": {}},
    "five megabytes": '{"format": 1, "files": {' + " " * (5 << 20) + "}}",
    **{
        f"the file {ascii(name)[:40]}": {"format": 1, "files": {name: ENTRY}}
        for name in ODD_NAMES
    },
    **{
        f"the entry {entry!r}"[:60]: {"format": 1, "files": {"zoo.yaml": entry}}
        for entry in (None, [], "x", {}, {"sha256": 1}, {**ENTRY, "more": 1}, {"sha256": None, "size": None},
                      {**ENTRY, "size": -1}, {"sha256": [], "size": {}}, {**ENTRY, "size": 10**30})
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    said = MANIFESTS[name]
    if not isinstance(said, (str, bytes)):
        said = json.dumps(said, indent=1, sort_keys=True) + "\n"
    (folder / manifest.MANIFEST).write_bytes(said if isinstance(said, bytes) else said.encode())
    with pytest.raises(BundleError) as caught:
        opened(folder)
    str(caught.value).encode()
    assert len(str(caught.value)) < 7000


# --------------------------------------------------------------------------------------------------- the folder itself


def elsewhere(folder: Path, name: str) -> Path:
    target = folder.parent / f"outside-{name}"
    os.replace(folder / name, target)
    return target


def symbolic(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(elsewhere(folder, name))


def hard(name: str) -> Callable[[Path], None]:
    return lambda folder: os.link(elsewhere(folder, name), folder / name)


def pipe(name: str) -> Callable[[Path], None]:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))[0]


def directory(name: str) -> Callable[[Path], None]:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())[0]


def deep(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def shallow(folder: Path) -> None:
    """What pytest can't remove."""
    place = os.open(folder, os.O_RDONLY)
    while True:
        try:
            os.rename("d/d", "e", src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            break
        os.rmdir("d", dir_fd=place)
        os.rename("e", "d", src_dir_fd=place, dst_dir_fd=place)
    os.rmdir("d", dir_fd=place)
    os.close(place)


FILES = ("zoo.yaml", "manifest.json", "model.onnx", "tokenizer.json")
PLACES: dict[str, Callable[[Path], None]] = {
    **{f"a symbolic link as {name}": symbolic(name) for name in FILES},
    **{f"a hard link as {name}": hard(name) for name in FILES},
    **{f"a pipe as {name}": pipe(name) for name in FILES},
    **{f"a folder as {name}": directory(name) for name in FILES},
    "a loop of links": lambda folder: (folder / "loop").symlink_to(folder),
    "a link to the root": lambda folder: (folder / "root").symlink_to("/"),
    "a link to nothing": lambda folder: (folder / "gone").symlink_to(folder / "nowhere"),
    "an empty folder": lambda folder: (folder / "more").mkdir(),
    "a program": lambda folder: (folder / "run.py").write_text("raise SystemExit")  and None,
    "a hidden file": lambda folder: (folder / ".evil").write_text("x") and None,
    "four hundred folders": deep,
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_a_folder_with_what_does_not_belong(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    PLACES[name](folder)
    with pytest.raises(BundleError):
        opened(folder)
    if PLACES[name] is deep:
        shallow(folder)


@pytest.mark.parametrize("name", [name for name in PLACES if name.endswith(("zoo.yaml", "model.onnx"))])
def test_a_link_is_refused_unverified_too(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    PLACES[name](folder)
    with pytest.raises(BundleError):
        zoo.runtime.load(folder, verify=False)


def test_a_file_within_a_linked_folder(whole: dict[str, Path], tmp_path: Path) -> None:
    """The file is a regular one; the way to it is not."""
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("1")
    (folder / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match=r"sub/secret is missing \(or a link\)"):
        manifest.inside(folder, "sub/secret")


def test_a_hole_of_a_terabyte_is_not_hashed(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    with (folder / bundle.GRAPH).open("r+b") as file:
        file.truncate(1 << 40)
    files = json.loads((folder / manifest.MANIFEST).read_text())["files"]
    files[bundle.GRAPH]["size"] = 1 << 40
    (folder / manifest.MANIFEST).write_bytes(manifest._canonical(files))
    with pytest.raises(BundleError, match="hole"):
        opened(folder)


def test_a_card_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_MOST_CARD", 5000)
    card = read(bundle.Card, {**tiny.card_of("text"), "zoo": "x" * 5000}, where="it")
    with pytest.raises(BundleError, match="can be read again"):
        bundle.write_card(tmp_path, card)
