"""Rows of tables: what columns are taken to be, and what cells become."""

from __future__ import annotations

import datetime
import math
import pickle
from typing import Any

import numpy as np
import pytest

from zoo.errors import ConfigError, DataError, InputError, SpecError
from zoo.modalities.tabular import TabularEncoder, category, layout, members, number
from zoo.modalities.tabular_schema import infer, learn, target_range
from zoo.spec import Cross, TabularColumn, TabularInput
from zoo.strict import read

TABLE = TabularInput(
    columns=(
        TabularColumn(name="user", kind="categorical", values=("a", "中文")),
        TabularColumn(name="age", kind="numeric", mean=40.0, std=10.0),
        TabularColumn(name="tags", kind="set", values=("x", "y"), width=2),
        TabularColumn(name="city", kind="categorical", buckets=7),
    ),
    crosses=(Cross(columns=("user", "tags"), buckets=11),),
)


def encoded(row: dict[str, Any]) -> dict[str, Any]:
    (window,) = TabularEncoder(TABLE).encode(row)
    return dict(window.inputs)


def test_one_table_holds_every_columns_rows() -> None:
    # Row 0 pads; user: missing 1, unknown 2, a 3, 中文 4; tags: 5, 6, x 7, y 8; city: missing 9, buckets 10 to 16.
    place = layout(TABLE)
    assert (place.bases, place.slots, place.rows) == ((1, 5, 9), ((0, 1), (1, 3), (3, 4)), 17)
    assert (place.cross_bases, place.cross_slots, place.cross_rows, place.numbers) == ((1,), ((0, 2),), 12, 1)


def test_cells_become_rows_of_the_table() -> None:
    found = encoded({"user": "中文", "age": 60, "tags": ["y", "x", "y"], "city": "Zürich"})
    assert found["categories"].tolist()[:3] == [4, 8, 7]
    assert 10 <= found["categories"][3] <= 16
    assert found["numbers"].tolist() == [2.0, 0.0]
    assert found["numbers"].dtype == np.float32
    assert ((found["crosses"] >= 1) & (found["crosses"] <= 11)).all()
    assert [array.dtype for name, array in found.items() if name != "numbers"] == [np.int64, np.int64]


def test_missing_and_unknown_are_different_things() -> None:
    missing = encoded({"user": None, "age": math.nan, "tags": [], "city": " "})
    assert missing["categories"].tolist() == [1, 5, 0, 9]
    assert missing["numbers"].tolist() == [0.0, 1.0]
    assert missing["crosses"].tolist() == [0, 0]
    assert encoded({"user": "b", "age": 40, "tags": "z|x", "city": "x"})["categories"].tolist()[:3] == [2, 6, 7]
    np.testing.assert_array_equal(encoded({"city": " "})["categories"], missing["categories"])


def test_a_hash_is_the_same_on_every_machine() -> None:
    assert encoded({"user": "a", "city": "Zürich"})["categories"][3] == 10
    assert encoded({"user": "a", "tags": "x"})["crosses"].tolist() == [5, 0]


@pytest.mark.parametrize("value", [196, 196.0, np.int64(196), np.float32(196), "196", " 196 "])
def test_one_category_in_every_spelling(value: Any) -> None:
    assert category(value) == "196"


def test_cells_of_other_kinds() -> None:
    assert category(True) == "True"
    assert category(3.25) == "3.25"
    assert category(math.inf) == "inf"
    assert category(datetime.date(2026, 1, 2)) == "2026-01-02"
    assert members({"b", "a"}, "|") == ["a", "b"]
    assert members(np.array(["q", "r"]), "|") == ["q", "r"]
    assert (number("3.5"), number(True), number("")) == (3.5, 1.0, None)
    with pytest.raises(InputError, match="a category is a text or a number, not list"):
        category(["a"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a text", "A row is a mapping of column names to cells, not str 'a text'. The columns are: user, age"),
        ({}, "none of the model's columns"),
        ({"who": 1}, "none of the model's columns, which are user, age, tags, city; it has 'who'"),
        ({"usre": "a", "age": 3}, "The row has 'usre' and not 'user'"),
        ({"user": "a", "age": "old"}, "column 'age': a number is expected, not str 'old'"),
        ({"user": "a", "age": math.inf}, "column 'age': inf is no finite number"),
        ({"user": {"id": 3}}, "column 'user': a category is a text or a number, not dict"),
        ({"user": "a", "age": [3]}, "column 'age': a number is expected, not list"),
    ],
)
def test_a_row_that_cant_be_used_says_why(row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TabularEncoder(TABLE).encode(row)


def test_a_wild_number_is_held_back_and_surrogates_pass() -> None:
    assert encoded({"user": "\ud800", "age": 1e300})["numbers"].tolist() == [10.0, 0.0]


def test_before_data_there_are_no_columns() -> None:
    with pytest.raises(InputError, match="no columns yet: finetune"):
        TabularEncoder(TabularInput()).encode({"a": 1})


def test_frames_are_rows_and_the_encoder_travels() -> None:
    pandas = pytest.importorskip("pandas")
    encoder = pickle.loads(pickle.dumps(TabularEncoder(TABLE)))
    rows = encoder.several(pandas.DataFrame({"user": ["a", None], "age": [1.0, None]}))
    assert rows is not None
    batch = encoder.collate([encoder.encode(row)[0] for row in rows])
    assert batch["categories"].shape == (2, 4)
    assert batch["numbers"][:, 1].tolist() == [0.0, 1.0]
    assert encoder.several({"user": "a"}) is None


# What columns are taken to be


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "b"], "categorical"),
        ([True, False], "categorical"),
        ([1, 2] * 10, "categorical"),
        ([1.0, 2.0, math.nan] * 10, "categorical"),
        (list(range(50)), "numeric"),
        ([0.5, 1], "numeric"),
        ([["a"], None], "set"),
        ([1, "a"], "categorical"),
    ],
)
def test_kinds_are_inferred(values: list[Any], kind: str) -> None:
    assert infer(values) == kind


def test_columns_are_learned() -> None:
    rows = [
        {"user": u, "age": a, "tags": t, "same": 1}
        for u, a, t in zip("abab", [1.5, 2, 3, None], ["x y"] * 4, strict=True)
    ]
    rows[3]["extra"] = "only here"
    found = learn(
        rows, kinds={"tags": "set", "user": "hashed"}, crosses=[("user", "tags")], hash_buckets=9, cross_buckets=5
    )
    user, age, tags, extra = found.columns
    assert (user.kind, user.buckets, user.values) == ("categorical", 9, ())
    assert age.mean == pytest.approx(6.5 / 3)
    assert age.std == pytest.approx(float(np.std([1.5, 2, 3])))
    assert (tags.kind, tags.values, tags.width, tags.separator) == ("set", ("x", "y"), 2, " ")
    assert extra.values == ("only here",)  # there or not, which tells rows apart
    assert found.crosses == (Cross(columns=("user", "tags"), buckets=5),)


def test_many_categories_are_hashed_and_huge_numbers_scaled() -> None:
    found = learn([{"id": f"user {i}", "n": 1e300 * (i % 3 - 1.5)} for i in range(30)], hash_above=10, hash_buckets=4)
    assert found.columns[0].buckets == 4
    assert math.isfinite(found.columns[1].std)


def test_what_cant_be_learned_says_why() -> None:
    rows = [{"a": "x", "n": 0.5}, {"a": "y", "n": 1.5}]
    with pytest.raises(ConfigError, match=r"There is no column 'aa'. Did you mean 'a'"):
        learn(rows, kinds={"aa": "set"})
    assert learn(rows, crosses=[("a", "n")]).columns[1].values == ("0.5", "1.5")
    with pytest.raises(ConfigError, match="crosses has 'n', which is numeric"):
        learn(rows, kinds={"n": "numeric"}, crosses=[("a", "n")])
    with pytest.raises(ConfigError, match="two or more different columns"):
        learn(rows, crosses=[("a", "a")])
    with pytest.raises(DataError, match="None of the columns"):
        learn([{"a": "x"}, {"a": "x"}])
    with pytest.raises(DataError, match="column 'a': a number is expected"):
        learn(rows, kinds={"a": "numeric"})
    with pytest.raises(DataError, match="the one target 3"):
        target_range([3, 3.0])


def test_a_spec_that_crosses_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="'b' is crossed and no categorical column"):
        read(
            TabularInput,
            {"columns": [{"name": "a", "kind": "categorical"}], "crosses": [{"columns": ["a", "b"], "buckets": 3}]},
            where="test",
        )
