"""What pairs of texts say: sides that are equal, and pairs that come the other way round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.training.data.rows import Rows
from zoo.training.lint.fingerprints import Hash, fingerprints
from zoo.training.lint.report import Finding, weight_of
from zoo.training.lint.tables import SHOWN

_Sides = tuple[Hash, Hash]


def check_pairs(train: Rows, val: Rows | None, inputs: Sequence[Any]) -> Iterator[Finding]:
    """inputs: of the rows of train, then of val; those that are no pairs say nothing here."""
    sides = _sides(inputs)
    yield from _equal(train, val, sides)
    first: dict[_Sides, int] = {}
    for place, pair in sides.items():
        if place < len(train):
            first.setdefault(pair, place)
    turned = {place: first[pair[::-1]] for place, pair in sides.items() if pair[0] != pair[1] and pair[::-1] in first}
    yield from _turned(train, {a: b for a, b in turned.items() if b < a < len(train)})
    if val is not None:
        yield from _leaked(train, val, {a: b for a, b in turned.items() if a >= len(train)})


def _sides(inputs: Sequence[Any]) -> dict[int, _Sides]:
    """The hashes of both texts by place."""
    pairs = [(i, given) for i, given in enumerate(inputs) if isinstance(given, Mapping) and "text_pair" in given]
    hashes = [fingerprints([given[side] for _, given in pairs], files=False) for side in ("text", "text_pair")]
    found: dict[int, _Sides] = defaultdict()
    for (place, _), a, b in zip(pairs, *hashes, strict=True):
        if a is not None and b is not None:
            found[place] = (a, b)
    return found


def _equal(train: Rows, val: Rows | None, sides: Mapping[int, _Sides]) -> Iterator[Finding]:
    places = [place for place, (a, b) in sides.items() if a == b]
    if places:
        yield Finding(
            weight_of(len(places), len(sides)), "equal-sides",
            f"{len(places):,} pair{'s have' if len(places) > 1 else ' has'} the same text on both sides.",
            "Is the second column the right one?", len(places),
            tuple(_where(train, val, place) for place in places[:SHOWN]),
        )  # fmt: skip


def _turned(train: Rows, pairs: Mapping[int, int]) -> Iterator[Finding]:
    if pairs:
        yield Finding(
            "note", "swapped-pairs",
            f"{len(pairs):,} pair{'s come' if len(pairs) > 1 else ' comes'} the other way round, too.",
            "Where the sides mean the same, as for a likeness, those rows count double.", len(pairs),
            tuple(f"{train.where(a)} = {train.where(b)}, swapped" for a, b in list(pairs.items())[:SHOWN]),
        )  # fmt: skip


def _leaked(train: Rows, val: Rows, pairs: Mapping[int, int]) -> Iterator[Finding]:
    if pairs:
        shown = [(place - len(train), b) for place, b in list(pairs.items())[:SHOWN]]
        yield Finding(
            "warning", "swapped-pairs-in-both-splits",
            f"{len(pairs):,} of the {len(val):,} pairs to validate on are in train with their sides swapped.",
            "What is measured there is memory, at least in part. Remove them from one of the two.", len(pairs),
            tuple(f"{val.where(a)} = {train.where(b)}, swapped" for a, b in shown),
        )  # fmt: skip


def _where(train: Rows, val: Rows | None, place: int) -> str:
    return train.where(place) if val is None or place < len(train) else val.where(place - len(train))
