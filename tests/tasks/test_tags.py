"""Expected entities are written by hand from the rules of conlleval, which seqeval's default mode follows."""

from __future__ import annotations

import pytest

from zoo.tasks.tags import Span, scheme, spans


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        # Two of a type side by side.
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        # IOB1: B only between two of a type.
        ("I-PER I-PER B-PER O I-LOC", [("PER", 0, 2), ("PER", 2, 3), ("LOC", 4, 5)]),
        # Invalid: I after O, and I of another type.
        ("O I-PER I-PER O", [("PER", 1, 3)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("I-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        # A type with a dash of its own.
        ("B-work-of-art I-work-of-art", [("work-of-art", 0, 2)]),
    ],
)
def test_bio(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split(), "BIO") == [Span(*span) for span in expected]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER E-PER S-LOC O", [("PER", 0, 3), ("LOC", 3, 4)]),
        ("S-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        # Invalid: E or I at the beginning, B without E, something after E.
        ("O E-PER", [("PER", 1, 2)]),
        ("I-PER E-PER", [("PER", 0, 2)]),
        ("B-PER O", [("PER", 0, 1)]),
        ("E-PER E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
        ("S-PER I-PER E-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("B-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("B-PER E-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        # BILOU.
        ("B-PER I-PER L-PER U-LOC", [("PER", 0, 3), ("LOC", 3, 4)]),
    ],
)
def test_bioes(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split(), "BIOES") == [Span(*span) for span in expected]


def test_plain() -> None:
    assert spans(["PER", "PER", "O", "LOC", "PER"], "plain") == [
        Span("PER", 0, 2),
        Span("LOC", 3, 4),
        Span("PER", 4, 5),
    ]
    # Word classes: every word is its own.
    words = spans(["NOUN", "NOUN", "VERB"], "plain", outside=False)
    assert words == [Span("NOUN", 0, 1), Span("NOUN", 1, 2), Span("VERB", 2, 3)]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("O", "B-PER", "I-PER"), "BIO"),
        (("O", "I-PER"), "BIO"),
        (("O", "B-PER"), "BIO"),
        (("O", "B", "I"), "BIO"),
        (("O", "B-PER", "I-PER", "E-PER", "S-PER"), "BIOES"),
        (("O", "B-PER", "I-PER", "L-PER", "U-PER"), "BIOES"),
        (("O", "PER", "LOC"), "plain"),
        (("NOUN", "VERB"), "plain"),
        (("E", "S"), "plain"),
        (("O", "B-PER", "MISC"), "plain"),
        (("O",), "plain"),
        ((), "plain"),
    ],
)
def test_scheme(labels: tuple[str, ...], kind: str) -> None:
    assert scheme(labels) == kind


def test_untyped_tags_have_seqevals_type() -> None:
    assert spans(["B", "I", "O", "B"], "BIO") == [Span("_", 0, 2), Span("_", 3, 4)]
