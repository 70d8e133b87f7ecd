"""A bundle in less than fp32 out of one in fp32: what is made, without torch, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import zoo
from tests.conformance.conftest import tiny_model
from tests.test_precision import Case, _text_model, _texts
from tests.tiny import widen
from zoo.cli.app import app
from zoo.errors import BundleError, ConfigError
from zoo.precision import speed
from zoo.precision.speed import Speed

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(_text_model(), _texts(200), tmp_path_factory.mktemp("text") / "a.bundle")


@pytest.fixture(autouse=True)
def twice_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tiny graphs a measured speed is noise."""
    monkeypatch.setattr(speed, "measure", lambda ours, theirs, given: Speed(2.0, 1.99, 2.01))


@pytest.fixture
def rows(text: Case, tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *text.pairs])
    return path


def _asked(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_it_is_the_bundle_that_the_model_would_have_given(tmp_path: Path, text: Case) -> None:
    before = zoo.verify(text.folder)
    made = zoo.export(text.folder, tmp_path / "b.bundle", precision="int8", calibration=text.pairs)
    assert made.card.export is not None
    assert made.card.export.precision == "int8"
    assert made.card.parity == zoo.runtime.load(text.folder).card.parity
    assert zoo.verify(text.folder) == before
    given = text.model.export(tmp_path / "c.bundle", precision="int8", calibration=text.pairs)
    assert made.card.quality == given.card.quality
    mine, its = (zoo.verify(tmp_path / f"{name}.bundle") for name in "bc")
    assert mine["model.onnx"] == its["model.onnx"]
    assert set(mine) == set(its)


def test_an_opened_bundle_may_take_its_own_place(tmp_path: Path, text: Case) -> None:
    first = zoo.export(text.model, tmp_path / "a.bundle")
    made = zoo.export(first, tmp_path / "a.bundle", precision="int8", calibration=text.pairs)
    assert made.card.quality is not None
    assert made.card.quality.way == "int8 dynamic"
    assert zoo.verify(tmp_path / "a.bundle")["model.onnx"]["size"] < zoo.verify(text.folder)["model.onnx"]["size"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


_WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("torch", "torchvision", "torchaudio", "transformers", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from zoo.precision import speed
speed.measure = lambda ours, theirs, given: speed.Speed(2.0, 1.99, 2.01)
from zoo.cli.app import app
app()
"""


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_the_command_needs_no_torch(tmp_path: Path, text: Case, rows: Path, precision: str) -> None:
    command = ["export", text.folder, tmp_path / "b.bundle", "--precision", precision, "--calibration", rows, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["quality"]["passed"]
    assert told["parity"]["passed"]
    made = zoo.runtime.load(tmp_path / "b.bundle")
    assert made.predict(text.pairs[0][0]).label == text.pairs[0][1]


def test_what_a_bundle_gets_right_is_counted_without_torch(text: Case, rows: Path) -> None:
    command = ["evaluate", text.folder, rows, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    expected = text.model.evaluate(rows).to_dict()
    assert told["metrics"] == pytest.approx(expected["metrics"])
    assert {key: told[key] for key in ("per_class", "confusion")} == {
        key: expected[key] for key in ("per_class", "confusion")
    }


def test_a_model_repository_of_triton_takes_the_reduced_graph(tmp_path: Path, text: Case, rows: Path) -> None:
    done = _asked("export", text.folder, tmp_path / "repository", "--layout", "triton", "--precision", "int8",
                  "--calibration", rows)  # fmt: skip
    assert done.exit_code == 0, done.output
    graphs = list((tmp_path / "repository").rglob("model.onnx"))
    assert graphs
    assert max(path.stat().st_size for path in graphs) < (text.folder / "model.onnx").stat().st_size


def test_what_is_no_bundle_in_fp32_is_refused(tmp_path: Path, text: Case) -> None:
    with pytest.raises(ConfigError, match=r"a\.bundle is an exported bundle already\. To reduce it, give precision="):
        zoo.export(text.folder, tmp_path / "b.bundle")
    with pytest.raises(ConfigError, match="give calibration="):
        zoo.export(text.folder, tmp_path / "b.bundle", precision="int8")
    for more in ({"task": "text-classification"}, {"labels": ["a"]}, {"samples": ["alpha"]}):
        with pytest.raises(ConfigError, match="A bundle has its own task, labels and tokenizer"):
            zoo.export(text.folder, tmp_path / "b.bundle", precision="int8", calibration=text.pairs, **more)  # type: ignore[arg-type]
    small = zoo.export(text.folder, tmp_path / "b.bundle", precision="int8", calibration=text.pairs)
    with pytest.raises(ConfigError, match=r"b\.bundle is in int8; give the bundle in fp32"):
        zoo.export(small, tmp_path / "c.bundle", precision="int8", calibration=text.pairs)
    assert not (tmp_path / "c.bundle").exists()


def test_a_bundle_whose_bytes_have_changed_is_not_worked_on(tmp_path: Path, text: Case) -> None:
    zoo.export(text.model, tmp_path / "a.bundle")
    opened = zoo.runtime.load(tmp_path / "a.bundle")
    (tmp_path / "a.bundle" / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json is not the file that was written"):
        zoo.export(opened, tmp_path / "b.bundle", precision="int8", calibration=text.pairs)
    assert not (tmp_path / "b.bundle").exists()


def test_the_command_says_what_is_fixed(tmp_path: Path, text: Case, rows: Path) -> None:
    done = _asked("export", text.folder, tmp_path / "b.bundle", "--precision", "int8", "--calibration", rows,
                  "--task", "text-classification", "--labels", "a,b")  # fmt: skip
    assert done.exit_code == 1
    assert "--task, --labels can't be chosen any more" in " ".join(done.output.split())


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = tiny_model("bert-base-cased").spec
    tagger = zoo.load(
        spec, task="token-classification", labels=["O", "B-PER", "I-PER"], weights=None, device="cpu", seed=0
    )
    widen(tagger)
    tagger.save("tagger")
    tagger.export("tagger.bundle")
    rows = [(text.split(), _tags(tagger, text)) for text in dict.fromkeys(_texts(120))]
    loose = zoo.export("tagger.bundle", "loose.bundle", precision="int8", calibration=rows, max_drop=0.99)
    # What int8 changes of random weights is not the point here.
    rows = [row for row in rows if any(tag != "O" for tag in row[1]) and _tags(loose, " ".join(row[0])) == row[1]]
    assert len(rows) > 20
    for name, some in (("dev", rows[::2]), ("test", rows[1::2])):
        lines = ["\n".join(map("\t".join, zip(*row, strict=True))) for row in some]
        Path(f"{name}.conll").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    page = (ROOT / "docs" / "precision.md").read_text(encoding="utf-8")
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert [shlex.split(line)[:2] for line in commands] == [["zoo", "export"], ["zoo", "export"], ["zoo", "evaluate"]]
    for line in commands:
        done = _asked(*shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
    assert "int8" in _asked("export", "tagger.bundle", "again.bundle", *shlex.split(commands[1])[4:]).output
    assert "f1" in done.output


def _tags(model: Any, text: str) -> list[str]:
    """Of each word, in the names of CoNLL."""
    places = [match.span() for match in re.finditer(r"\S+", text)]
    tags = ["O"] * len(places)
    for entity in model.predict(text):
        inside = [n for n, (start, end) in enumerate(places) if start < entity.end and end > entity.start]
        for number, place in enumerate(inside):
            tags[place] = f"{'I' if number else 'B'}-{entity.label}"
    return tags
