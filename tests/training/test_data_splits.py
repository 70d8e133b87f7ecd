"""Holding rows out, and what is checked before training."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ConfigError, DataError
from zoo.training.data import Rows, check, check_classes, check_splits, hold_out, read, split

TASK = "text-classification"


def rows_of(labels: Any) -> Rows:
    return read([(str(i), label) for i, label in enumerate(labels)], tasks=(TASK,)).splits["train"]


def numbers(rows: Rows) -> list[int]:
    return [int(text) for text in rows.inputs()]


def test_stratified() -> None:
    rows = rows_of(["a"] * 80 + ["b"] * 20)
    train, val = split(rows, 0.1, seed=0, stratify=True)
    assert Counter(val.targets()) == {"a": 8, "b": 2}
    assert sorted(numbers(train) + numbers(val)) == list(range(100))
    assert numbers(train) == sorted(numbers(train))


def test_the_seed_decides() -> None:
    rows = rows_of(["a", "b"] * 50)
    for stratify in (True, False):
        first, again, other = (numbers(split(rows, 0.2, seed=seed, stratify=stratify)[1]) for seed in (3, 3, 4))
        assert first == again != other


def test_a_label_of_one_row_stays_in_train() -> None:
    rows = rows_of(["a"] * 5 + ["b"] * 5 + ["rare", "rarer"])
    for seed in range(20):
        train, val = split(rows, 0.5, seed=seed, stratify=True)
        assert {"rare", "rarer"} <= set(train.targets())
        assert len(val) == 6


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.sampled_from("abcdef"), min_size=2, max_size=40),
    fraction=st.floats(0.001, 0.999),
    stratify=st.booleans(),
)
def test_nothing_is_lost_and_each_part_has_a_row(labels: list[str], fraction: float, stratify: bool) -> None:
    if stratify and max(Counter(labels).values()) == 1:
        with pytest.raises(DataError, match="one row alone"):
            split(rows_of(labels), fraction, seed=0, stratify=True)
        return
    train, val = split(rows_of(labels), fraction, seed=0, stratify=stratify)
    assert sorted(numbers(train) + numbers(val)) == list(range(len(labels)))
    assert len(train) >= 1
    assert len(val) >= 1
    if stratify:
        assert set(val.targets()) <= set(train.targets())


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, True, float("nan")])
def test_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        split(rows_of("ab"), fraction, seed=0, stratify=False)


def test_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 row can't be split"):
        split(rows_of("a"), 0.5, seed=0, stratify=False)


def test_hold_out() -> None:
    pairs = [(str(i), "ab"[i % 2]) for i in range(20)]
    plain = read(pairs, tasks=(TASK,))
    train, val = hold_out(plain, 0.1, seed=0)
    assert val is not None
    assert (len(train), Counter(val.targets())) == (18, {"a": 1, "b": 1})
    assert hold_out(plain, None, seed=0)[1] is None
    own = read({"train": pairs, "val": pairs[:3]}, tasks=(TASK,))
    assert [len(part or ()) for part in hold_out(own, 0.1, seed=0)] == [20, 3]
    assert [len(part or ()) for part in hold_out(own, pairs[:4], seed=0)] == [20, 4]
    assert len(hold_out(plain, own, seed=0)[1] or ()) == 3
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hold_out(plain, 1, seed=0)


def test_words_are_held_out_by_sentence() -> None:
    sentences = read([([str(i)], ["O"]) for i in range(10)], tasks=("token-classification",))
    train, val = hold_out(sentences, 0.2, seed=1)
    assert (len(train), len(val or ())) == (8, 2)


def test_one_class_only() -> None:
    with pytest.raises(DataError, match="All 3 rows have the one label 'spam'"):
        check_classes(rows_of(["spam"] * 3))
    assert check_classes(rows_of(["a", 1, 1.0, "1"])) == {"a": 0, "1": 1}


def test_labels_unseen_in_train() -> None:
    with pytest.raises(DataError, match=r"list\[1\]: 'c' is not in train: 'a', 'b'"):
        check_splits(rows_of("ab"), rows_of("ac"))
    check_splits(rows_of("ab"), rows_of("b"))
    check_splits(rows_of([0, 1]), rows_of(["1"]))


def test_check_is_for_labels_alone() -> None:
    train, val = rows_of("ab"), rows_of("c")
    with pytest.raises(DataError, match="'c' is not in train"):
        check(TASK, train, val)
    check(TASK, train, val, ("a", "b", "c"))
    with pytest.raises(DataError, match="'b' is not in the labels given: 'a'"):
        check(TASK, train, None, ("a",))
    with pytest.raises(DataError, match="one label"):
        check(TASK, rows_of("aa"))
    texts = read(["once", "upon"], tasks=("text-generation",)).splits["train"]
    check("text-generation", texts, texts)
    tags = read([(["a", "b"], ["O", "B"])], tasks=("token-classification",)).splits["train"]
    check("token-classification", tags, tags)
