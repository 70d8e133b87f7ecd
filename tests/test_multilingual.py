"""Labels, texts, file and folder names in any script, from the data to the bundle's answers and the command's lines."""

from __future__ import annotations

import csv
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len
from typer.testing import CliRunner

import zoo
from tests.tiny import tiny
from zoo.cli.app import app
from zoo.errors import DataError
from zoo.report_fonts import lettering
from zoo.training import data

LABELS = ("café", "العربية", "हिन्दी", "中文标签", "👍🏽")
TEXTS = ("un café noir", "مرحبا بالعالم", "नमस्ते दुनिया", "今天天气很好。我们去公园散步吧。" * 4, "great 👩‍👩‍👧‍👦 day")


def table(path: Path, form: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((text, unicodedata.normalize(form, label)) for text, label in zip(TEXTS, LABELS, strict=True))
    return path


def test_from_the_data_to_the_bundle(tmp_path: Path) -> None:
    # Written on a Mac, measured elsewhere: one label in two forms of Unicode is one label.
    train, test = table(tmp_path / "训练 données.csv", "NFD"), table(tmp_path / "परीक्षा.csv", "NFC")
    spec = tiny(zoo.info("bert-base-chinese"))
    longer = {"max_position_embeddings": 300, "hidden_dropout_prob": 0.0}
    spec = spec.evolve(input={**spec.input.to_dict(), "max_length": 300}, config={**spec.config, **longer})
    model = zoo.load(spec, task="text-classification", weights=None, device="cpu", seed=0)
    steps = {"epochs": 40, "batch_size": 5, "learning_rate": 1e-2, "scheduler": "constant", "progress": False}
    model.finetune(train, val=None, output_dir=tmp_path / "输出", **steps)
    assert model.labels == LABELS
    report = model.evaluate(test)
    assert report.metrics["accuracy"] == 1.0
    lines = str(report).splitlines()
    assert max(map(cell_len, lines)) <= 80
    # Columns stand under each other, however wide the labels are.
    assert len({cell_len(line) for line in lines if line.endswith("1.0000         1")}) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = report.to_html(tmp_path / "报告.html").read_text(encoding="utf-8")
        report.plot(tmp_path / "चित्र.png")
    for label in LABELS:
        assert label in page
    model.save(tmp_path / "模型 📁")
    model.export(tmp_path / "पैकेज.bundle", samples=list(TEXTS))
    answers = model.predict(list(TEXTS))
    assert [answer.label for answer in answers] == list(LABELS)
    assert zoo.load(tmp_path / "模型 📁", device="cpu").predict(list(TEXTS)) == answers
    zoo.verify(tmp_path / "पैकेज.bundle")
    bundle = zoo.runtime.load(tmp_path / "पैकेज.bundle")
    assert [answer.label for answer in bundle.predict(list(TEXTS))] == list(LABELS)
    for command in (
        ["predict", str(tmp_path / "पैकेज.bundle"), *TEXTS],
        ["evaluate", str(tmp_path / "模型 📁"), str(test)],
        ["info", str(tmp_path / "模型 📁")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert all(label in done.output for label in LABELS), done.output
        assert max(map(cell_len, done.output.splitlines())) <= 80


def test_class_folders_and_file_names_in_either_form(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café/été.png")
    for name in (decomposed, "中文/图像.png"):
        (tmp_path / "bilder" / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "bilder" / name)
    tasks = ("image-classification",)
    rows = data.read(tmp_path / "bilder", tasks=tasks).splits["train"]
    assert sorted(rows.targets()) == ["café", "中文"]
    listed = tmp_path / "liste.csv"
    listed.write_text("image,label\nbilder/café/été.png,a\nbilder/中文/图像.png,b\n", encoding="utf-8")
    found = [row.input for row in data.read(listed, tasks=tasks).splits["train"]]
    assert all(Path(path).is_file() for path in found)
    model = zoo.load(
        tiny(zoo.info("resnet18")), task="image-classification", labels=["a", "b"], weights=None, device="cpu"
    )
    assert model.predict(str(tmp_path / "bilder" / "café/été.png")).label in ("a", "b")


def test_a_label_from_elsewhere_is_found_in_either_form() -> None:
    from zoo.tasks.labels import index_of

    decomposed = unicodedata.normalize("NFD", "café")
    assert decomposed != "café"
    assert index_of("café", {decomposed: 3}) == index_of(decomposed, {"café": 3}) == 3
    with pytest.raises(DataError, match="中文"):
        index_of("中", {"中文": 0})


def test_labels_that_no_font_can_draw_are_numbered() -> None:
    found = lettering(["plain", "\U000f0000 private", "$x^2$", "العربية"])
    assert found.names == ("plain", "#2", r"\$x^2\$", "العربية")
    assert found.numbered
    assert found.families[0] == "DejaVu Sans"
    assert not lettering(["é", "a b"]).numbered
