"""Tag schemes of token classification: tags of words as entities.

BIO, IOB1 and BIOES (BILOU too) are read by one set of rules, those of the CoNLL-2000 `conlleval` script and of
seqeval's default mode, so that an invalid sequence still has one meaning: an `I-` after `O` or after another
type begins an entity. Tags without a prefix are read as runs of the same tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Scheme = Literal["BIO", "BIOES", "plain"]
OUTSIDE = "O"
_PREFIXED = re.compile(r"([BIESLU])(?:-(.*))?", re.DOTALL)
_SAME = {"L": "E", "U": "S"}  # BILOU's last and unit are BIOES' end and single


class Span(NamedTuple):
    """An entity: its type, its first word, and the word after its last."""

    type: str
    start: int
    end: int


def scheme(labels: Iterable[str]) -> Scheme:
    """What a label set is written in. BIO stands for IOB1 too: their tags are the same and read the same."""
    inside = [label for label in labels if label != OUTSIDE]
    matches = [_PREFIXED.fullmatch(label) for label in inside]
    prefixes = {match[1] for match in matches if match}
    # Bare B and I are tags of an only type; a lone S or E is rather a word class.
    typed = any("-" in label for label in inside) or "B" in prefixes or "I" in prefixes
    if not inside or not all(matches) or not typed:
        return "plain"
    return "BIOES" if prefixes & set("ESLU") else "BIO"


def spans(tags: Sequence[str], kind: Scheme, *, outside: bool = True) -> list[Span]:
    """The entities of one row's tags, in order.

    outside: whether the plain scheme has an `O`. If not (word classes), every word is a span of its own.
    """
    if kind == "plain":
        return _runs(tags, joined=outside)
    found: list[Span] = []
    start = 0
    prefix, name = OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        next_prefix, next_name = _parts(tag)
        if _ends(prefix, name, next_prefix, next_name):
            found.append(Span(name, start, place))
        if _starts(prefix, name, next_prefix, next_name):
            start = place
        prefix, name = next_prefix, next_name
    return found


def _parts(tag: str) -> tuple[str, str]:
    """Prefix (one of B I E S O) and type; an untyped entity has seqeval's type "_"."""
    match = _PREFIXED.fullmatch(tag)
    if match is None:
        return OUTSIDE, ""
    return _SAME.get(match[1], match[1]), match[2] or "_"


def _ends(prefix: str, name: str, next_prefix: str, next_name: str) -> bool:
    if prefix == OUTSIDE:
        return False
    return prefix in "ES" or next_prefix in "BSO" or name != next_name


def _starts(prefix: str, name: str, next_prefix: str, next_name: str) -> bool:
    if next_prefix == OUTSIDE:
        return False
    return next_prefix in "BS" or prefix in "ESO" or name != next_name


def _runs(tags: Sequence[str], *, joined: bool) -> list[Span]:
    found: list[Span] = []
    for place, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        if joined and found and found[-1].type == tag and found[-1].end == place:
            found[-1] = found[-1]._replace(end=place + 1)
        else:
            found.append(Span(tag, place, place + 1))
    return found
