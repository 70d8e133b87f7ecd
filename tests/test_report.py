from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from zoo.errors import ConfigError, MissingDependency
from zoo.report import ClassScore, Confusion, Report
from zoo.tasks.metrics import LabelCounter

VOID = {"meta", "img", "br", "link"}


def classified(count: int, *, name: str = "label {}", rows: int = 500, **changes: Any) -> Report:
    labels = [name.format(i) for i in range(count)]
    rng = np.random.default_rng(0)
    true = rng.integers(0, count, rows)
    counter = LabelCounter(labels)
    counter.update(true, np.where(rng.random(rows) < 0.8, true, rng.integers(0, count, rows)))
    averages = counter.averages()
    given = {
        "task": "image-classification",
        "metrics": {"accuracy": counter.accuracy, "f1_macro": averages["macro"].f1},
        "per_class": counter.scores(),
        "averages": averages,
        "confusion": counter.confusion(),
        "rows": rows,
        "history": tuple(
            {"epoch": e, "train_loss": 2.0 / e, "val_loss": 2.2 / e, "val_accuracy": 1 - 0.5 / e, "seconds": 3.0}
            for e in (1, 2, 3, 4)
        ),
    }
    return Report(**{**given, **changes})


def entities() -> Report:
    scores = tuple(ClassScore(name, 0.5, 0.25, 1 / 3, 8) for name in ("LOC", "PER"))
    averages = {name: ClassScore(name, 0.5, 0.25, 1 / 3, 16) for name in ("micro", "macro", "weighted")}
    return Report("token-classification", {"entity_f1": 1 / 3}, scores, averages, None, scores, 16)


REPORTS = {
    "two": lambda: classified(2),
    "nine": lambda: classified(9, name="a label of some length {}"),
    "many": lambda: classified(300, name="n{:05d} a very long label, longer than any column could be"),
    "wide": lambda: classified(4, name="标签文字很长很长很长很长很长很长很长很长 العربية हिन्दी 👍🏽 {}"),
    "wide matrix": lambda: classified(3, name="标签{}"),
    "entities": entities,
    "speech": lambda: Report("automatic-speech-recognition", {"wer": 0.25, "cer": 0.1}, rows=4),
    "one row": lambda: Report("text-classification", {"accuracy": 1.0}, rows=1, skipped=("row 3: " + "x" * 200,) * 9),
    "infinite": lambda: Report("text-generation", {"perplexity": float("inf"), "loss": 900.0}, rows=3),
    "empty": lambda: Report("text-generation", {}),
}


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


def test_prints_within_80_columns(report: Report) -> None:
    lines = str(report).splitlines()
    assert lines[0].startswith(report.task)
    assert max(map(cell_len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)


def test_print() -> None:
    matrix = ((3, 1), (0, 4))
    scores = (ClassScore("cat", 1.0, 0.75, 6 / 7, 4), ClassScore("dog", 0.8, 1.0, 8 / 9, 4))
    averages = {"micro": ClassScore("micro", 0.875, 0.875, 0.875, 8)}
    report = Report(
        "text-classification", {"accuracy": 0.875}, scores, averages, Confusion(("cat", "dog"), matrix), rows=8
    )
    assert str(report) == (
        "text-classification: 8 rows\n"
        "\n"
        "  accuracy      0.8750\n"
        "\n"
        "  label  precision    recall        f1   support\n"
        "  cat       1.0000    0.7500    0.8571         4\n"
        "  dog       0.8000    1.0000    0.8889         4\n"
        "\n"
        "  micro     0.8750    0.8750    0.8750         8\n"
        "\n"
        "  label \\ answer   cat   dog\n"
        "  cat                3     1\n"
        "  dog                0     4"
    )


def test_a_matrix_is_printed_while_its_labels_fit() -> None:
    assert "label \\ answer" in str(classified(6))
    assert "label \\ answer" not in str(classified(7))
    assert "most frequent mistakes" in str(classified(2, name="a label that is long enough to fill its column {}"))


def test_many_labels_are_cut_and_the_mistakes_are_listed() -> None:
    shown = str(REPORTS["many"]())
    assert "and 270 more in report.per_class" in shown
    assert "most frequent mistakes" in shown


def test_to_dict_is_json(report: Report) -> None:
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["task"] == report.task
    assert plain["rows"] == report.rows
    assert len(plain["per_class"]) == len(report.per_class)


def test_to_dict() -> None:
    plain = classified(2).to_dict()
    assert set(plain["per_class"][0]) == {"label", "precision", "recall", "f1", "support"} | {
        "specificity",
        "auroc",
        "average_precision",
        "iou",
    }
    assert plain["confusion"]["labels"] == ["label 0", "label 1"]
    assert np.sum(plain["confusion"]["matrix"]) == 500
    assert plain["averages"]["macro"]["f1"] == plain["metrics"]["f1_macro"]
    assert plain["history"][3]["epoch"] == 4
    assert REPORTS["infinite"]().to_dict()["metrics"]["perplexity"] is None


class Checker(HTMLParser):
    """Every tag is closed in its turn, and nothing is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images = 0
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        values = dict(attrs)
        for name in ("src", "href"):
            assert values.get(name, "data:image/png;base64,").startswith("data:image/png;base64,")
        assert tag not in ("script", "link")
        self.images += tag == "img"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_html(report: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = report.to_html(tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.images >= 1
    assert page.startswith("<!DOCTYPE html>")
    assert re.search(r"http", re.sub(r'src="[^"]*"', "", page)) is None
    for score in report.entities or report.per_class:
        assert score.label in checker.cells


def test_html_escapes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = classified(2, name="<b>$x_{} & y", skipped=("row 1: <script>",))
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;$x_0 &amp; y" in page


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_plot(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = classified(3).plot(tmp_path / f"report{ending}")
    assert path.stat().st_size > 5000


def test_plot_of_every_kind(report: Report, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    with image.open(report.plot(tmp_path / "report.png")) as plot:
        assert min(plot.size) > 300


def test_plot_refuses_other_endings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg, \.pdf, not '\.txt'"):
        classified(2).plot(tmp_path / "report.txt")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r'matplotlib.*pip install "polyzoo\[measure\]"'):
        classified(2).to_html(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_plotting_leaves_pyplot_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code = (
        "import sys; from zoo.report import Report; r = Report('text-generation', {'loss': 1.0}); str(r)\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"r.plot({str(tmp_path / 'p.png')!r}); print('matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
