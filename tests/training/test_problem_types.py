"""Several labels and numbers in the data: what is inferred, what is refused, and what is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.tiny import tiny
from zoo.errors import ConfigError, DataError
from zoo.training.data import Rows, hold_out, problem_of, read

TASKS = ("text-classification", "token-classification")
SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
SEVERAL = [("x y", ["a", "b"]), ("y", []), ("z z", ["c"]), ("x", ["a"]), ("q", ["b", "c"]), ("w", ["a"])]
NUMBERS = [(f"text {i}", i / 2) for i in range(6)]


def rows_of(data: Any, **options: Any) -> Rows:
    return read(data, tasks=TASKS, **options).splits["train"]


def written(folder: Path, text: str, name: str = "data.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_what_is_inferred_in_memory() -> None:
    import pandas

    for form in (SEVERAL, [{"text": t, "labels": s} for t, s in SEVERAL], [{"text": t, "label": s} for t, s in SEVERAL],
                 pandas.DataFrame(SEVERAL, columns=["text", "labels"])):  # fmt: skip
        rows = rows_of(form)
        assert problem_of(rows) == MULTI
        assert rows.targets() == [labels for _, labels in SEVERAL]
    numbers = rows_of(NUMBERS)
    assert problem_of(numbers) == REGRESSION
    assert numbers.targets() == [number for _, number in NUMBERS]
    assert problem_of(rows_of([("a", 1.0), ("b", 2.0)])) == SINGLE
    assert problem_of(rows_of([("a", True), ("b", 0)])) == SINGLE
    assert problem_of(rows_of([("a", 1), ("b", 2)], problem_type=REGRESSION)) == REGRESSION
    assert rows_of([("a", "1"), ("b", "2")], problem_type=MULTI).targets() == [["1"], ["2"]]
    # A column named `labels` that holds one each.
    assert problem_of(rows_of([{"text": "a", "labels": 1}, {"text": "b", "labels": 0}])) == SINGLE
    assert problem_of(rows_of([(["New", "York"], ["B", "I"])])) is None


def test_what_is_inferred_in_files(tmp_path: Path) -> None:
    table = written(tmp_path, 'text,labels\nx,"[""a b"", ""c""]"\ny,a c\nz,[]\n')
    assert rows_of(table).targets() == [["a b", "c"], ["a", "c"], []]
    assert problem_of(rows_of(written(tmp_path, "text,labels\nx,a\ny,b\n"))) == SINGLE
    assert rows_of(written(tmp_path, "text,label\nx,1\ny,2.5\n")).targets() == [1.0, 2.5]
    assert problem_of(rows_of(written(tmp_path, "text,label\nx,1\ny,2.0\n"))) == SINGLE
    assert problem_of(rows_of(written(tmp_path, "text,label\nx,v1.5\ny,2.5\n"))) == SINGLE
    said = rows_of(written(tmp_path, "text,label\nx,1.5\ny,2.5\n"), problem_type=SINGLE)
    assert said.targets() == ["1.5", "2.5"]
    lines = written(tmp_path, '{"text": "x", "label": ["a"]}\n{"text": "y", "label": ["b", "a"]}\n', "d.jsonl")
    assert rows_of(lines).targets() == [["a"], ["b", "a"]]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ("text,labels\nx,a b\ny,\n", {}, "data.csv row 3, column 'labels': the cell is empty"),
        ('text,labels\nx,"a, b"\ny,a\n', {}, "row 2.*has commas"),
        ("text,label\nx,1\ny,two\n", {"problem_type": REGRESSION}, "row 3.*a finite number is expected"),
        ("text,label\nx,1\ny,nan\n", {"problem_type": REGRESSION}, "row 3.*a finite number is expected"),
    ],
)
def test_faulty_rows_are_named(table: str, options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(written(tmp_path, table), **options)


def test_an_unknown_problem_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'multi_label_classification'"):
        rows_of(SEVERAL, problem_type="multilabel_classification")


def test_hold_out_spreads_rare_labels() -> None:
    rng = np.random.default_rng(0)
    data = [(f"t{i}", ["common", *(["rare"] if i % 10 == 0 else [])] if rng.random() < 0.9 else []) for i in range(100)]
    _, val = hold_out(read(data, tasks=TASKS), 0.2, seed=3)
    assert val is not None
    assert len(val) == 20
    assert sum("rare" in labels for labels in val.targets()) == round(0.2 * sum("rare" in labels for _, labels in data))
    _, val = hold_out(read(NUMBERS, tasks=TASKS), 0.34, seed=0)
    assert val is not None
    assert len(val) == 2
    lone = read([("a", ["x"]), ("b", ["y"]), ("c", ["z", "x"])], tasks=TASKS)
    assert len(hold_out(lone, 0.3, seed=0)[0]) == 2


def text_model(**options: Any) -> zoo.Model:
    return zoo.load(tiny(zoo.info("bert-base-cased")), weights=None, device="cpu", seed=0, **options)


STEP = {"max_steps": 2, "batch_size": 3, "val": None, "lint": False}


def test_from_data_to_bundle(tmp_path: Path) -> None:
    """Both kinds through every verb on text; the export of the other modalities is the conformance suite's."""
    model = text_model()
    model.finetune(SEVERAL, output_dir=tmp_path / "run", class_weights="balanced", **STEP)
    assert (model.spec.problem_type, model.labels, model.task.metric) == (MULTI, ("a", "b", "c"), "f1_micro")
    report = model.evaluate(SEVERAL)
    assert report.rows == 6
    model.save(tmp_path / "saved")
    again = zoo.load(tmp_path / "saved", device="cpu")
    assert again.spec == model.spec
    assert again.predict("x y", threshold=0.1) == model.predict("x y", threshold=0.1)
    # Further training goes on with the same head, also where its rows have one label each.
    again.finetune([("x", "a"), ("y", "b")], output_dir=tmp_path / "more", **STEP)
    assert (again.spec.problem_type, again.labels) == (MULTI, ("a", "b", "c"))
    with pytest.raises(DataError, match=r"0\.5 is not a whole number|not one of"):
        again.finetune(NUMBERS, output_dir=tmp_path / "wrong", **STEP)
    again.finetune(NUMBERS, output_dir=tmp_path / "number", problem_type=REGRESSION, **STEP)
    assert (again.spec.problem_type, again.labels) == (REGRESSION, ("value",))
    assert again.module.net.config.num_labels == 1
    similar = [({"text": f"a {i}", "text_pair": f"b {i % 3}"}, i / 4) for i in range(6)]
    found = again.evaluate(similar)
    assert set(found.metrics) >= {"mse", "rmse", "mae"}
    assert isinstance(again.predict(similar[0][0]).value, float)


def test_whole_numbers_become_values_when_that_is_said(tmp_path: Path) -> None:
    rows = [(f"t {i}", i % 5) for i in range(8)]
    model = text_model(problem_type=REGRESSION)
    assert model.labels == ("value",)
    assert isinstance(model.predict("x").value, float)
    model.finetune(rows, 0.25, max_steps=2, batch_size=4, output_dir=tmp_path / "run")
    assert model.spec.problem_type == REGRESSION
    assert model.history[-1]["rmse"] > 0
    with pytest.raises(ConfigError, match="goes with a classification"):
        text_model(task="token-classification", problem_type=REGRESSION)


def test_a_head_of_one_label_each_gives_several(tmp_path: Path) -> None:
    """Logits stay, their meaning changes: a published classifier used as one of several labels."""
    single = text_model(task="text-classification", labels=["a", "b"])
    several = text_model(task="text-classification", labels=["a", "b"], problem_type=MULTI)
    assert several.predict("x", threshold=0.0).labels != ()
    for ours, theirs in zip(single.module.net.parameters(), several.module.net.parameters(), strict=True):
        assert ours.equal(theirs)
    single.finetune([("x", "a"), ("y", "b")], output_dir=tmp_path / "run", **STEP)
    assert single.spec.problem_type == SINGLE
