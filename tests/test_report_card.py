"""`report.html` of a bundle: what is on it, that nothing on it runs, that it is a file of the bundle like others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.conformance.conftest import tiny_model
from tests.test_report import Checker
from zoo import bundle, manifest, report_card
from zoo.bench import summary
from zoo.bundle import Attempt, Card, Export, Graph, Parity, Quality, TensorSpec
from zoo.cli.app import app
from zoo.errors import BundleError
from zoo.spec import ModelSpec
from zoo.strict import read

EVIL = "<script>alert(1)</script>"
SPEC = {
    "name": "a", "modality": "text", "tasks": ["text-classification"], "backend": "transformers", "architecture": EVIL,
    "input": {"kind": "text", "max_length": 128}, "labels": ["good", "bad"], "license": EVIL, "parameters": 1234567,
    "source": "javascript:alert(1)", "weights": {"repo": "org/a", "revision": EVIL}, "title": f"A {EVIL}",
}  # fmt: skip
PARITY = Parity(
    passed=True, samples=5, cases=15, batch_sizes=(1, 2, 5), max_abs_difference=2e-6, scale=3.0, tolerance=3e-4,
    agreement=1.0, source="built-in",
)  # fmt: skip
TENSORS = (TensorSpec(name="input_ids", dtype="int64", shape=("batch", "length")),)


def made(folder: Path, *, spec: dict[str, object] | None = None, **changes: object) -> str:
    given = {
        "kind": "bundle", "zoo": "1.0", "task": "text-classification", "parity": PARITY, "inputs": TENSORS,
        "spec": read(ModelSpec, {**SPEC, **(spec or {})}, where="it"), "export": Export(opset=18, versions={EVIL: "1"}),
    }  # fmt: skip
    bundle.write_card(folder, read(Card, {**given, **changes}, where="it"))
    return checked(report_card.html(folder))


def checked(page: str) -> str:
    """Every tag is closed, there is no script and no address that is followed."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(page.encode()) < 100_000
    return page


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def test_what_a_report_says(tmp_path: Path) -> None:
    said = text(made(tmp_path))
    for part in (
        "Labels 2: good, bad", "1,234,567", "input_ids in int64 batch x length model.onnx", "opset 18",
        "up to 128 tokens", "2e-06", "0.0003", "5 built-in inputs in batches of 1, 2, 5", "zoo serve BUNDLE",
    ):  # fmt: skip
        assert part in said, part
    for absent in ("Less than fp32", "Fine-tuning", "Times"):
        assert absent not in said


def test_nothing_of_a_stranger_runs_and_the_page_stays_small(tmp_path: Path) -> None:
    labels = [f"{EVIL}{place}" + "x" * 500 for place in range(100)]
    layers = tuple(TensorSpec(name=f"{EVIL}{place}", dtype=EVIL, shape=(EVIL * 9,) * 3) for place in range(100))
    graph = Graph(name="model", file="model.onnx", inputs=layers, outputs=layers)
    (tmp_path / EVIL.replace("/", "")).write_text("a")
    page = made(tmp_path, spec={"labels": labels}, graphs=(graph,), zoo=EVIL, history=({EVIL: 1.0, "accuracy": EVIL},))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "100: " in page
    assert ", and 60 more" in page


def test_a_reduced_precision_has_its_figures_and_what_was_tried(tmp_path: Path) -> None:
    tried = (
        Attempt(
            way="int8 static",
            verdict="kept",
            before=0.9,
            after=0.895,
            speed=2.5,
            speed_between=(2.2, 2.6),
            bytes=100_000,
            left_out=2,
        ),
        Attempt(way=EVIL, verdict=EVIL),
    )
    quality = Quality(
        passed=True, way="int8 static", metric="accuracy", before=0.91, after=0.905, drop=0.005, relative=False,
        max_drop=0.01, rows=200, calibration_rows=100, speed=2.4, device="cpu", bytes_before=4_000_000,
        bytes_after=1_000_000, left_out=("/layer/MatMul", EVIL), tried=tried,
    )  # fmt: skip
    said = text(made(tmp_path, quality=quality, export=Export(precision="int8", opset=18)))
    for part in ("Precision int8", "0.9100 in fp32, 0.9050 here, on 200 rows", "2.40 times", "4.0 MB in fp32, 1.0 MB",
                 "/layer/MatMul", "int8 static 0.8950 2.50 (2.20 to 2.60) 0.1 MB 2 kept"):  # fmt: skip
        assert part in said, part


def test_fine_tuning_says_its_best_epoch_and_many_epochs_are_cut(tmp_path: Path) -> None:
    history = tuple({"epoch": n, "val_loss": 1 / n, "accuracy": 0.9 if n == 70 else 0.5} for n in range(1, 101))
    page = made(tmp_path, history=history)
    assert "100 epochs. accuracy on the validation rows was best after epoch 70: 0.9000." in text(page)
    assert page.count("<tr>") < 100


def test_layers_of_a_cache_stand_in_one_line(tmp_path: Path) -> None:
    layers = tuple(TensorSpec(name=f"past.{n}.key", dtype="float32", shape=("batch", 2)) for n in range(24))
    graph = Graph(name="model", file="model.onnx", inputs=(*TENSORS, *layers), outputs=TENSORS)
    assert "past.N.key, 24 layers in float32 batch x 2 model.onnx" in text(made(tmp_path, graphs=(graph,)))


IMAGE = {"kind": "image", "mean": [0.5] * 3, "std": [0.25] * 3}
MEL = {"kind": "mel", "sampling_rate": 16000, "layout": "kaldi", "bins": 64, "frames": 100}
WORDS = [
    (
        "vision",
        "image-classification",
        {**IMAGE, "size": [8, 8], "crop_pct": 0.5},
        "16 x 16 (bicubic), and the middle 8",
    ),
    ("vision", "image-classification", {**IMAGE, "size": [8, 9], "crop_pct": 1, "crop_mode": "squash"}, "to 8 x 9"),
    ("vision", "object-detection", {**IMAGE, "size": [8, 9], "crop_mode": "pad", "shortest_edge": 6}, "side to 6"),
    ("audio", "audio-classification", {"kind": "audio", "sampling_rate": 8000}, "8,000 Hz and brought to zero mean"),
    ("audio", "audio-classification", MEL, "64 bins and 100 frames"),
    ("tabular", "tabular-classification", {"kind": "tabular", "columns": [{"name": EVIL, "kind": "numeric"}]}, "1 col"),
]


@pytest.mark.parametrize(("modality", "task", "given", "part"), WORDS)
def test_preprocessing_in_words(modality: str, task: str, given: dict[str, object], part: str, tmp_path: Path) -> None:
    page = made(tmp_path, task=task, spec={"modality": modality, "tasks": [task], "input": given})
    assert part in page
    assert ("mean 0.5, 0.5, 0.5; std 0.25" in page) is (modality == "vision")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "a.bundle"
    model = tiny_model("resnet18", "image-classification")
    model.history = ({"epoch": 1, "train_loss": 1.5, "accuracy": 0.75},)
    model.export(folder)
    return folder


def test_export_writes_a_report_that_the_manifest_knows(exported: Path) -> None:
    page = checked((exported / "report.html").read_text(encoding="utf-8"))
    said = text(page)
    assert "model.onnx" in said
    assert "best after epoch 1: 0.7500" in said
    assert "answers as torch does" in said
    assert set(zoo.verify(exported)) == {"zoo.yaml", "model.onnx", "report.html"}
    # Nothing of the path that it was made at.
    assert str(exported.parent) not in page


def test_a_changed_report_is_found_and_a_bundle_without_one_is_read(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old.bundle"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "report.html").write_text(EVIL, encoding="utf-8")
    with pytest.raises(BundleError, match=r"report\.html"):
        zoo.runtime.load(folder)
    for name in ("report.html", "manifest.json"):
        (folder / name).unlink()
    manifest.write(folder)
    assert zoo.runtime.load(folder).predict(np.zeros((9, 9, 3), np.uint8)).label


def test_bench_writes_the_report_with_the_times_in_it(exported: Path, tmp_path: Path) -> None:
    before = (exported / "report.html").read_bytes()
    page = tmp_path / "times.html"
    given = ["bench", str(exported), "--batch-sizes", "1,2", "--seconds", "0", "--html", str(page)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    said = checked(page.read_text(encoding="utf-8"))
    assert "preprocessing is not in them" in said
    assert said.count("<img") == 1
    assert (exported / "report.html").read_bytes() == before
    zoo.verify(exported)


def test_times_stand_in_a_table(exported: Path) -> None:
    timings = [summary("bundle, cpu", 8, [0.01] * 10, 0.5)]
    assert "bundle, cpu 8 10.00 10.00 10.00 800.0 10 500.0" in text(report_card.html(exported, timings))
