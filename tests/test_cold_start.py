"""From a folder to the first answer, and on to the quick ones: weights beside the graph, checked while the rest is
opened, and the session that takes over."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import zoo
from tests.safety import tiny
from zoo import manifest, tracing
from zoo.errors import BundleError
from zoo.runtime.model import BundleModel
from zoo.runtime.session import Session

TEXTS = ["some words", "and some other words that are more of them", "few"]
WIDTH = 2048


def deep_graph(layers: int = 3) -> onnx.ModelProto:
    """As `tiny.text_graph`, with matrices of 16 MiB in between."""
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(rng.normal(size=(300, WIDTH)).astype(np.float32), "words")]
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=tiny.FLOAT),
        helper.make_node("Unsqueeze", ["seen", "last"], ["mask"]),
        helper.make_node("Mul", ["each", "mask"], ["h0"]),
    ]
    for layer in range(layers):
        matrix = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / np.float32(WIDTH**0.5)
        constants.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes += [
            helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Tanh", [f"m{layer}"], [f"h{layer + 1}"]),
        ]
    head = rng.normal(size=(WIDTH, 2)).astype(np.float32) / np.float32(WIDTH)
    constants += [numpy_helper.from_array(head, "head"), tiny.ints("last", [-1]), tiny.ints("tokens", [1])]
    nodes += [
        helper.make_node("ReduceSum", [f"h{layers}", "tokens"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "head"], ["logits"]),
    ]
    inputs = [tiny.value(name, tiny.INT64, "b", "t") for name in ("input_ids", "attention_mask")]
    return tiny.model_of(nodes, constants, inputs, [tiny.value("logits", tiny.FLOAT, "b", 2)])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with 50 MB of weights beside its graph."""
    folder = tiny.write(tmp_path_factory.mktemp("large") / "a.bundle", "text")
    onnx.save_model(
        deep_graph(), str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data"
    )  # fmt: skip
    (folder / "model.onnx.data").chmod(0o644)
    tiny.seal(folder)
    return folder


def inner(model: BundleModel) -> Session:
    assert isinstance(model.session, Session)
    return model.session


def logits(model: BundleModel, text: str) -> Any:
    encoder, task = model.encoder, model.task
    windows = task.encode(encoder, text, task.parse_options({}))
    return inner(model).run(task.collate(encoder, windows))["logits"]


def successors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "zoo-successor"]


def until(done: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------- the weights


def test_weights_stand_beside_the_graph_from_some_size_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conformance.conftest import tiny_model

    model = tiny_model("bert-base-uncased", "text-classification")
    inline = model.export(tmp_path / "inline.bundle")
    assert not (tmp_path / "inline.bundle" / "model.onnx.data").exists()
    monkeypatch.setattr(tracing, "INLINE_BYTES", 1000)
    beside = model.export(tmp_path / "beside.bundle")
    assert (tmp_path / "beside.bundle" / "model.onnx.data").stat().st_size > 10_000
    assert set(manifest.verify(tmp_path / "beside.bundle")) >= {"model.onnx", "model.onnx.data"}
    assert beside.predict(TEXTS) == inline.predict(TEXTS)


def test_a_changed_byte_of_the_weights_is_found_before_an_answer(large: Path, tmp_path: Path) -> None:
    assert zoo.runtime.load(large).predict(TEXTS[0]).label in tiny.LABELS
    folder = tiny.copy(large, tmp_path / "a.bundle")
    size = (folder / "model.onnx.data").stat().st_size
    for place in (0, manifest.PIECE - 1, manifest.PIECE, size - 1):
        _flip(folder / "model.onnx.data", place)
        with pytest.raises(BundleError, match=r"model\.onnx\.data is not the file that was written"):
            zoo.runtime.load(folder)
        _flip(folder / "model.onnx.data", place)
    zoo.runtime.load(folder)


def test_changed_weights_are_what_is_said_where_opening_fails_too(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.copy(large, tmp_path / "a.bundle")
    _flip(folder / "model.onnx.data", 5)

    def fail(*_: Any, **__: Any) -> None:
        raise BundleError("it can't be opened")

    monkeypatch.setattr("zoo.runtime.model.opened", fail)
    with pytest.raises(BundleError, match="its bytes have changed"):
        zoo.runtime.load(folder)
    with pytest.raises(BundleError, match="it can't be opened"):
        zoo.runtime.load(large)


def _flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


# ------------------------------------------------------------------------------------------------------ the manifest


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of several pieces, which are small here."""
    monkeypatch.setattr(manifest, "PIECE", 64)
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(bytes(range(200)))
    (folder / "exact.onnx").write_bytes(bytes(128))
    (folder / "small.yaml").write_bytes(bytes(64))
    manifest.write(folder)
    return folder


def test_a_large_file_has_a_hash_for_each_piece(pieces: Path) -> None:
    files = manifest.verify(pieces)
    said = json.loads((pieces / "blake3.json").read_text())["files"]
    assert {name: len(entry["blake3"]) for name, entry in said.items()} == {"weights.bin": 4, "exact.onnx": 2}
    # Of the whole as well, for readers that know no pieces.
    assert all(entry["sha256"] == manifest.sha256(pieces / name) for name, entry in files.items())
    for path in pieces.iterdir():
        content = path.read_bytes()
        for place in {*range(0, len(content), 23), len(content) - 1}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(BundleError):
                manifest.verify(pieces)
        path.write_bytes(content)
    manifest.verify(pieces)


HARMS: dict[str, Any] = {
    "no pieces": lambda files: files["weights.bin"].update(blake3=[]),
    "one less": lambda files: files["weights.bin"]["blake3"].pop(),
    "one more": lambda files: files["weights.bin"]["blake3"].append("0" * 64),
    "no list": lambda files: files["weights.bin"].update(blake3="0" * 64),
    "no text": lambda files: files["weights.bin"].update(blake3=[None, 1, {}, []]),
    "no entry": lambda files: files.update({"weights.bin": None}),
    "another key": lambda files: files["weights.bin"].update(more=1),
    "the hash of another whole": lambda files: files["weights.bin"].update(sha256="0" * 64),
    "an unknown file": lambda files: files.update({"../secret": files["weights.bin"]}),
    "itself": lambda files: files.update({"blake3.json": files["weights.bin"]}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_pieces_that_do_not_fit_are_refused(pieces: Path, harm: str) -> None:
    files = json.loads((pieces / "blake3.json").read_text())["files"]
    HARMS[harm](files)
    (pieces / "blake3.json").write_bytes(manifest._canonical(files))
    known = manifest._read(pieces, "manifest.json") | {"blake3.json": manifest._entry(pieces / "blake3.json")}
    (pieces / "manifest.json").write_bytes(manifest._canonical(known))
    with pytest.raises(BundleError, match=r"weights\.bin|secret|blake3\.json"):
        manifest.verify(pieces)


# They had no pieces at first, and later a sha256 of each in a file that is one like any other now.
@pytest.mark.parametrize("more", [set(), {"pieces.json"}], ids=["without pieces", "with those of before"])
def test_folders_of_before(pieces: Path, monkeypatch: pytest.MonkeyPatch, more: set[str]) -> None:
    monkeypatch.setattr(manifest, "PIECE", 1 << 24)
    manifest.write(pieces)
    files = manifest.verify(pieces)
    for name in more:
        (pieces / name).write_bytes(b"{}")
        (pieces / "manifest.json").write_bytes(manifest._canonical(files | {name: manifest._entry(pieces / name)}))
    monkeypatch.setattr(manifest, "PIECE", 64)
    assert set(manifest.verify(pieces)) == {"weights.bin", "exact.onnx", "small.yaml"} | more
    _flip(pieces / "weights.bin", 199)
    with pytest.raises(BundleError, match=r"weights\.bin"):
        manifest.verify(pieces)
    manifest.write(pieces)
    assert set(manifest.verify(pieces)) == {"weights.bin", "exact.onnx", "small.yaml", "blake3.json"}


def test_a_file_that_goes_away_while_it_is_hashed_is_one_error(pieces: Path) -> None:
    checking = manifest._Hashing([manifest._Part(pieces / "gone.bin", 0, 100, sha256)])
    with pytest.raises(BundleError, match=r"gone\.bin can't be read"):
        checking.wait()


def test_a_file_that_was_cut_off_is_not_the_one_that_was_written(pieces: Path) -> None:
    checking = manifest.Checking(pieces)
    files = manifest._read(pieces, "manifest.json")
    for left in (150, 64, 0):
        (pieces / "weights.bin").write_bytes(bytes(range(left)))
        found = manifest._Hashing(manifest._pieces(pieces / "weights.bin", files["weights.bin"]["size"])).wait()
        assert found[:-1] != checking._large["weights.bin"][:-1]
        with pytest.raises(BundleError, match=r"weights\.bin"):
            manifest.verify(pieces)
    (pieces / "weights.bin").write_bytes(bytes(100))
    cut_off = manifest._Part(pieces / "weights.bin", 1 << 24, 64, sha256)
    assert manifest._Hashing([cut_off]).wait() == [sha256().hexdigest()]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_hashed_weights_do_not_stay_in_memory(tmp_path: Path) -> None:
    """The pages of a file that are looked at count as the process's own."""
    with (tmp_path / "weights.bin").open("wb") as file:
        for part in range(8):
            file.write(bytes([part]) * (1 << 24))
    manifest.write(tmp_path)
    code = f"""
import os
from zoo import manifest
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
before = peak()
manifest.verify({str(tmp_path)!r})
print((peak() - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 80


# --------------------------------------------------------------------------------------------------- the graph ahead


def test_a_graph_is_opened_while_the_rest_is_imported(large: Path) -> None:
    """On a thread of its own, once; and where the card is at fault, that is said, and the graph is let go."""
    names = [thread.name for thread in threading.enumerate()]
    made: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.runtime.session._open", _noting(made))
        model = zoo.runtime.load(large)
    assert [path.name for path in made] == ["model.onnx"]
    assert inner(model).graph == large / "model.onnx"
    assert [thread.name for thread in threading.enumerate()] == names


def _noting(made: list[Path]) -> Any:
    from zoo.runtime import session

    def opening(ort: Any, graph: Path, *rest: Any) -> Any:
        assert threading.current_thread().name == "zoo-opening"
        made.append(graph)
        return open_(ort, graph, *rest)

    open_ = session._open
    return opening


def test_a_card_at_fault_is_said_before_a_graph_at_fault(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "a.bundle", "text")
    (folder / "model.onnx").write_bytes(b"no graph")
    tiny.seal(folder)
    with pytest.raises(BundleError, match="is damaged: it is no ONNX graph"):
        zoo.runtime.load(folder)
    (folder / "zoo.yaml").write_text("format: 99\n", encoding="utf-8")
    tiny.seal(folder)
    with pytest.raises(BundleError, match="is of format '99'"):
        zoo.runtime.load(folder)


# ----------------------------------------------------------------------------------------------------- the successor


@pytest.fixture
def quiet() -> Iterator[None]:
    """No thread of another test's is left."""
    until(lambda: not successors())
    yield
    gc.collect()
    until(lambda: not successors())


def test_the_session_that_takes_over_answers_the_same(large: Path, quiet: None) -> None:
    model, packed = zoo.runtime.load(large), zoo.runtime.load(large, packed=True)
    session = inner(model)
    first = weakref.ref(session._session)
    answers = [logits(model, TEXTS[0])]
    assert successors() == []  # whoever asks once is spared it
    answers.append(logits(model, TEXTS[0]))
    until(lambda: session._successor is None)
    gc.collect()
    assert first() is None  # and its memory is free
    for text in TEXTS:
        np.testing.assert_allclose(logits(model, text), logits(packed, text), rtol=0, atol=0)
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_allclose(answers[0], logits(model, TEXTS[0]), atol=1e-5)
    assert [result.label for result in model.predict(TEXTS)] == [result.label for result in packed.predict(TEXTS)]


def test_questions_from_many_threads_while_it_takes_over(large: Path, quiet: None) -> None:
    model = zoo.runtime.load(large, threads=1)
    expected = {text: logits(zoo.runtime.load(large, packed=True, threads=1), text) for text in TEXTS}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: (TEXTS[i % 3], logits(model, TEXTS[i % 3])), range(60)))
        assert len(successors()) <= 1
    for text, answer in found:
        np.testing.assert_allclose(answer, expected[text], atol=1e-5)
    until(lambda: inner(model)._successor is None)


def test_a_small_or_a_packed_model_has_none(large: Path, tmp_path: Path) -> None:
    small = zoo.runtime.load(tiny.write(tmp_path / "a.bundle", "text"))
    packed = zoo.runtime.load(large, packed=True)
    for model in (small, packed):
        assert inner(model)._successor is None
        model.predict([TEXTS[0]] * 3, batch_size=1)
    assert successors() == []


def test_where_it_can_not_be_made_the_first_goes_on(large: Path, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.runtime.load(large)
    session = inner(model)
    before = logits(model, TEXTS[0])

    def fail(_: Any) -> None:
        raise MemoryError

    assert session._successor is not None
    monkeypatch.setattr(session._successor, "_make", fail)
    logits(model, TEXTS[0])
    until(lambda: not successors())
    np.testing.assert_array_equal(logits(model, TEXTS[0]), before)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_what_was_exchanged_on_disk_does_not_take_over(large: Path, tmp_path: Path, quiet: None, name: str) -> None:
    folder = tiny.copy(large, tmp_path / "a.bundle")
    model = zoo.runtime.load(folder)
    first = inner(model)._session
    before = logits(model, TEXTS[0])
    (folder / name).rename(tmp_path / "was")
    (folder / name).write_bytes((tmp_path / "was").read_bytes())
    logits(model, TEXTS[0])
    until(lambda: not successors())
    assert inner(model)._session is first
    np.testing.assert_array_equal(logits(model, TEXTS[0]), before)


def test_a_model_that_goes_away_takes_it_along(large: Path, quiet: None) -> None:
    model = zoo.runtime.load(large)
    model.predict(TEXTS[:2], batch_size=1)
    assert len(successors()) <= 1
    gone = weakref.ref(inner(model))
    del model
    gc.collect()
    until(lambda: gone() is None and not successors())


@pytest.mark.parametrize("questions", [1, 2])
def test_the_end_of_the_process_does_not_wait_for_it(large: Path, questions: int) -> None:
    code = (
        "import sys, zoo.runtime\n"
        "from zoo.runtime.successor import Successor\n"
        "take = Successor._work\n"
        # As a model of many gigabytes would: it is told to give up, and the process ends.
        "def work(self):\n"
        "    make = self._make\n"
        "    def slow(options):\n"
        "        for _ in range(200):\n"
        "            made = make(options)\n"
        "        print('all of them')\n"
        "        return made\n"
        "    self._make = slow\n"
        "    take(self)\n"
        "Successor._work = work\n"
        "model = zoo.runtime.load(sys.argv[1])\n"
        "for _ in range(int(sys.argv[2])): model.predict('some words')\n"
        "print('answered')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(large), str(questions)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "answered\n", "")
