"""SQuAD's own JSON files, and tables of questions, contexts and answers out of them."""

from __future__ import annotations

import json
from typing import Any

from zoo.errors import DataError
from zoo.training.data.cells import display
from zoo.training.data.table import Paths, Table, in_memory
from zoo.training.data.tables import reading_text


def is_squad(data: Any) -> bool:
    """Whether JSON has the form of SQuAD's files."""
    articles = data.get("data") if isinstance(data, dict) else None
    return isinstance(articles, list) and all(isinstance(a, dict) and "paragraphs" in a for a in articles)


def open_squad(path: str) -> Table:
    """One row a question, of versions 1.1 and 2.0: `question`, `context`, `answers` as a list of
    `{"text", "answer_start"}`, empty for a question marked `is_impossible`.

    Raises DataError for JSON of another form, naming the part.
    """
    try:
        with reading_text(path) as file:
            data = json.load(file)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{display(path)} is not valid JSON ({error}).") from error
    if not is_squad(data):
        raise DataError(
            f"{display(path)} is not of SQuAD's form, which is the one JSON read: "
            '{"data": [{"paragraphs": [{"context": ..., "qas": [...]}]}]}. Give rows as .jsonl, one object a line.'
        )
    columns: dict[str, list[Any]] = {"question": [], "context": [], "answers": []}
    names = []
    for number, article in enumerate(data["data"]):
        for place, paragraph in enumerate(article["paragraphs"]):
            where = f"{display(path)} data[{number}].paragraphs[{place}]"
            for index, found in enumerate(_questions(paragraph, where)):
                columns["question"].append(found.get("question"))
                columns["context"].append(paragraph.get("context"))
                columns["answers"].append([] if found.get("is_impossible") else found.get("answers"))
                names.append(f"{where}.qas[{index}]")
    return in_memory(display(path), columns, Paths(names))


def _questions(paragraph: Any, where: str) -> list[dict[str, Any]]:
    found = paragraph.get("qas") if isinstance(paragraph, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"{where} has no list 'qas' of questions.")
    return found
