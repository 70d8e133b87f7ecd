"""The known faults of data, each planted and found; and clean data, in which nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import zoo
from tests.conformance.conftest import tiny_model
from zoo.errors import DataError
from zoo.training.lint import LintReport

CLEAN = [(f"this is text number {i} of the {label} kind", label) for i in range(12) for label in ("good", "bad")]


def kinds(report: LintReport) -> dict[str, str]:
    return {finding.kind: finding.level for finding in report.findings}


def found(report: LintReport, kind: str) -> Any:
    return next(finding for finding in report.findings if finding.kind == kind)


def test_clean_data_has_nothing_to_remark() -> None:
    report = zoo.lint(CLEAN, 0.25, task="text-classification")
    assert report.findings == ()
    assert report.ok
    assert str(report) == "text-classification: 18 rows, 6 to validate on. Nothing to remark."


def test_repeated_rows_conflicts_and_rows_in_both_splits_are_named() -> None:
    train = [*CLEAN, CLEAN[0], CLEAN[0], (CLEAN[1][0], "good")]
    report = zoo.lint(train, [*CLEAN[:2], ("quite another text", "good")], task="text-classification")
    assert kinds(report) == {
        "conflicting-rows": "warning",
        "duplicate-rows": "warning",
        "rows-in-both-splits": "warning",
    }
    assert found(report, "duplicate-rows").count == 2
    assert found(report, "duplicate-rows").rows == ("list[0] = list[24] and 1 more",)
    assert found(report, "conflicting-rows").rows == ("list[1] = list[26]",)
    assert found(report, "rows-in-both-splits").count == 2
    assert report.ok


def test_the_same_text_written_with_other_code_points_is_a_repetition() -> None:
    report = zoo.lint([*CLEAN, ("un café", "good"), ("un cafe\u0301 ", "good")], task="text-classification")
    assert found(report, "duplicate-rows").count == 1


def test_labels_that_are_uneven_rare_alike_or_unseen() -> None:
    rows = [(f"text {i}", "Yes") for i in range(60)] + [("a", "yes "), ("b", "no"), ("c", "no")]
    report = zoo.lint(rows, [("d", "maybe"), ("e", "no")], task="text-classification")
    assert kinds(report) == {
        "unseen-labels": "error",
        "label-imbalance": "warning",
        "rare-labels": "warning",
        "similar-labels": "warning",
    }
    assert not report.ok
    assert "60 to 1" in found(report, "label-imbalance").message
    assert found(report, "unseen-labels").rows == ("list[0]",)
    with pytest.raises(DataError, match="'maybe' is not in train"):
        report.raise_for_errors()


def test_one_label_alone_is_an_error() -> None:
    assert kinds(zoo.lint([("a", "x"), ("b", "x")], task="text-classification"))["one-label"] == "error"


def test_an_empty_cell_is_named_and_counted(tmp_path: Path) -> None:
    lines = ["text,label", *(f"{text},{label}" for text, label in CLEAN), ",good"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    report = zoo.lint(tmp_path / "a.csv", task="text-classification")
    assert kinds(report) == {"unreadable-rows": "error"}
    assert "row 26" in found(report, "unreadable-rows").rows[0]


def test_texts_longer_than_the_model_sees() -> None:
    model = tiny_model("bert-base-cased", "text-classification")
    rows = [(f"{text} {'word ' * 200 * (i % 2)}", label) for i, (text, label) in enumerate(CLEAN)]
    report = zoo.lint(rows, task="text-classification", model=model)
    assert kinds(report) == {"long-texts": "warning"}
    assert found(report, "long-texts").count == len(rows) // 2


def test_tags_that_continue_what_was_never_begun() -> None:
    rows = [(["Ada", "wrote"], ["B-PER", "O"]), (["to", "Ada"], ["O", "I-PER"]), (["Ada", "L"], ["B-PER", "I-PER"])]
    report = zoo.lint(rows, task="token-classification")
    assert found(report, "tags-without-beginning").rows == ("list[1]",)


def images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (70, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


def test_files_that_are_damaged_repeated_or_small(tmp_path: Path) -> None:
    folder = images(tmp_path / "data")
    (folder / "cat" / "broken.png").write_bytes(b"not an image")
    (folder / "dog" / "same.png").write_bytes((folder / "dog" / "0.png").read_bytes())
    Image.new("RGB", (9, 9)).save(folder / "cat" / "small.png")
    report = zoo.lint(folder, task="image-classification", model=tiny_model("resnet18"))
    assert kinds(report) == {"unreadable-rows": "error", "small-images": "note", "duplicate-rows": "warning"}
    assert "broken.png" in found(report, "unreadable-rows").rows[0]
    assert "same.png" in found(report, "duplicate-rows").rows[0]


def test_recordings_at_other_rates_and_transcripts_that_do_not_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i, (rate, text) in enumerate([(8000, "ab"), (16000, "abc"), (44100, "c a"), (16000, "abcab" * 60)]):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, rng.normal(0, 0.1, rate), rate)
        rows.append((str(path), text))
    model = tiny_model("wav2vec2-base-960h")
    report = zoo.lint(rows, task="automatic-speech-recognition", model=model)
    assert kinds(report) == {
        "transcripts-too-long": "error",
        "low-sampling-rate": "warning",
        "mixed-sampling-rates": "note",
    }
    assert "list[3]" in found(report, "transcripts-too-long").rows[0]
    assert found(report, "low-sampling-rate").rows == ("list[0]",)


def test_finetune_looks_first_and_shows_what_it_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = images(tmp_path / "data")
    (folder / "dog" / "same.png").write_bytes((folder / "dog" / "0.png").read_bytes())
    model = tiny_model("resnet18")
    model.finetune(folder, val=None, max_steps=1, batch_size=4)
    assert "1 row repeats another row" in capsys.readouterr().err
    model.finetune(folder, val=None, max_steps=1, batch_size=4, lint=False)
    assert "repeat" not in capsys.readouterr().err
    (folder / "cat" / "broken.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"broken\.png"):
        model.finetune(folder, val=None, max_steps=1, batch_size=4)
    model.finetune(folder, val=None, max_steps=3, batch_size=4, on_error="skip")
    assert any("broken.png" in text for text in model.history[-1]["skipped"])


def test_a_report_fits_a_terminal_and_is_json(tmp_path: Path) -> None:
    import json

    rows = [(f"text {i}", "Yes") for i in range(60)] + [("a", "yes"), ("b", "no")]
    report = zoo.lint(rows, task="text-classification")
    assert max(map(len, str(report).splitlines())) <= 80
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["kind"] == "label-imbalance"
