"""Inputs of several columns: pairs of texts in every form of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError
from zoo.training.data import Rows, hold_out, read

TASKS = ("feature-extraction", "text-classification", "token-classification")
PAIRED = [({"text": f"a{i}", "text_pair": f"b{i}"}, "yes" if i % 2 else "no") for i in range(6)]
DICTS = [{**given, "label": label} for given, label in PAIRED]


def rows_of(data: Any, **options: Any) -> Rows:
    return read(data, tasks=TASKS, **options).splits["train"]


class Mapped:
    """A torch-like dataset of the map style."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def test_every_form(tmp_path: Path) -> None:
    import pandas

    table = tmp_path / "pairs.csv"
    pandas.DataFrame(DICTS).to_csv(table, index=False)
    lines = tmp_path / "pairs.jsonl"
    lines.write_text("\n".join(map(json.dumps, DICTS)), encoding="utf-8")
    frame = pandas.DataFrame(DICTS)
    forms = [PAIRED, DICTS, iter(DICTS), frame, str(table), str(lines), Mapped(PAIRED), Mapped(DICTS),
             {name: frame[name].tolist() for name in frame}]  # fmt: skip
    for form in forms:
        rows = rows_of(form)
        assert rows.task == "text-classification"
        assert [(row.input, row.target) for row in rows] == PAIRED, form
        assert rows.targets() == [label for _, label in PAIRED]
        train, val = hold_out(read(rows, tasks=TASKS), 0.34, seed=0)
        assert val is not None
        assert (len(train), len(val)) == (4, 2)
        assert set(val.targets()) == {"no", "yes"}


def test_a_single_text_stays_a_text() -> None:
    rows = rows_of([{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    assert [row.input for row in rows] == ["a", "b"]
    mixed = rows_of([("alone", "no"), *PAIRED])
    assert mixed[0].input == "alone"
    assert mixed[1].input == {"text": "a0", "text_pair": "b0"}
    assert rows_of([({"text": "alone"}, "x")])[0].input == {"text": "alone"}


def test_columns_are_renamed_and_suggested() -> None:
    given = [{"premise": "a", "hypothesis": "b", "gold": "yes"}]
    rows = rows_of(given, columns={"text": "premise", "text_pair": "hypothesis", "label": "gold"})
    assert rows[0].input == {"text": "a", "text_pair": "b"}
    assert rows.columns == ("premise", "hypothesis", "gold")
    with pytest.raises(DataError, match=r'columns=\{"text": "sentence1", "text_pair": "sentence2"\}'):
        rows_of([{"sentence1": "a", "sentence2": "b", "label": "yes"}], task="text-classification")
    # A column that was named for one role is not used for another.
    swapped = rows_of(DICTS, columns={"text": "text_pair"}, task="text-classification")
    assert [row.input for row in swapped][:2] == ["b0", "b1"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"text": "a", "text_pair": None, "label": 1}, r"list\[6\], column 'text_pair': the cell is empty"),
        ({"text": "a", "text_pair": 5, "label": 1}, r"column 'text_pair': a text is expected, not int"),
        ({"text": "a", "label": 1}, r"column 'text_pair': the cell is empty"),
    ],
)
def test_faulty_rows_of_columns_are_named(bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        rows_of([*DICTS, bad])
    assert (caught.value.row, caught.value.column) == (6, "text_pair")
    assert len(rows_of([*DICTS, bad], on_error="skip")) == 6


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            ({"text": "a", "pair": "b"}, "no"),
            r"list\[6\].*a dict is expected that has 'text', and may have 'text_pair'",
        ),
        (({"text": "a", "text_pair": 5}, "no"), r"'text_pair': a text is expected, not int"),
        ((5, "no"), r"a text is expected, not int"),
        (("x",), "a tuple of 1"),
    ],
)
def test_faulty_pairs_are_named(bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of([*PAIRED, bad])
    with pytest.raises(DataError, match=r"Mapped\[6\]"):
        list(rows_of(Mapped([*PAIRED, bad])))
