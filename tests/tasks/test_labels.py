from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.tasks.labels import index_of, label_text, ordered


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("cat", "cat"),
        (np.str_("cat"), "cat"),
        (" cat ", " cat "),
        (1, "1"),
        (-1, "-1"),
        (np.int64(1), "1"),
        (np.uint8(1), "1"),
        (1.0, "1"),
        (np.float32(1), "1"),
        (np.array(1), "1"),
        (True, "True"),
        (np.bool_(False), "False"),
        (Colour.RED, "1"),
    ],
)
def test_plain_kinds_become_text(value: Any, text: str) -> None:
    found = label_text(value)
    assert found == text
    assert type(found) is str


def test_a_tensor_of_one_number() -> None:
    torch = pytest.importorskip("torch")
    assert label_text(torch.tensor(3)) == "3"


@pytest.mark.parametrize("value", [None, float("nan"), np.nan, np.float32("nan"), "", "  ", np.datetime64("NaT")])
def test_missing(value: Any) -> None:
    with pytest.raises(DataError, match=r"missing|not datetime64|not NoneType"):
        label_text(value)


def test_pandas_missing() -> None:
    pandas = pytest.importorskip("pandas")
    for value in (pandas.NA, pandas.NaT):
        with pytest.raises(DataError, match="missing"):
            label_text(value)


@pytest.mark.parametrize("value", [1.5, float("inf"), ["a"], {"a": 1}, b"a", np.array([1, 2])])
def test_what_is_no_label(value: Any) -> None:
    with pytest.raises(DataError, match=r"whole number"):
        label_text(value)


def test_index_names_the_label_and_the_known_ones() -> None:
    index = {"cat": 0, "dog": 1}
    assert index_of("dog", index) == 1
    with pytest.raises(DataError, match=r"'dgo' is not one of the model's 2: cat, dog\. Did you mean 'dog'"):
        index_of("dgo", index)
    with pytest.raises(DataError, match="It is a number and the model's labels are names"):
        index_of(1, index)


def test_order() -> None:
    assert ordered(["b", "a", "b"]) == ("a", "b")
    assert ordered(["10", "9", "-1"]) == ("-1", "9", "10")
    assert ordered(["10", "9", "x"]) == ("10", "9", "x")
