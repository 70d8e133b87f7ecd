"""What `zoo predict` is given, as raw inputs: texts and paths as they stand, and JSON for inputs of several columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.predictor import Predictor


def read_inputs(given: Sequence[str], predictor: Predictor) -> Iterator[str]:
    """One text an input: "-" stands for the lines of standard input, and where inputs are JSON a .jsonl file for its
    lines."""
    of_json = predictor.spec.input.kind == "tabular" or _columns(predictor)
    for text in given:
        if text == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        elif of_json and text.endswith(".jsonl"):
            yield from _lines(Path(text))
        else:
            yield text


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from (line.strip() for line in file if line.strip())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}.") from error


def question_inputs(questions: Sequence[str] | None, context: str | None) -> list[str]:
    """--question, which may be repeated, and --context as JSON inputs. Raises ConfigError for one without the other."""
    if not questions and context is None:
        return []
    if not questions or context is None:
        raise ConfigError("--question and --context go together: give both.")
    return [json.dumps({"question": question, "context": context}, ensure_ascii=False) for question in questions]


def as_raw(text: str, predictor: Predictor) -> Any:
    """An input as predict() takes it: a row of a table, or an input of several columns, is JSON.

    What is no JSON stays a text, which the encoder refuses where it needs more.
    """
    if predictor.spec.input.kind == "tabular":
        return _json(text)
    columns = _columns(predictor)
    if not columns or not text.lstrip().startswith("{"):
        return text
    found = _json(text)
    if not isinstance(found, dict) or columns[0] not in found:
        return text
    # Labels and the like may stand beside them in a file of data.
    return {name: found[name] for name in columns if name in found}


def _columns(predictor: Predictor) -> tuple[str, ...]:
    """The columns of an input that has several, or may have them; none where an input is one text or one file."""
    task = predictor.task
    more = (*task.more_inputs, *task.optional_inputs)
    return (task.columns[0], *more) if more else ()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
