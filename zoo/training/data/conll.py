"""Files of words and tags in columns, one word a line, as the CoNLL shared tasks have them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

import numpy as np

from zoo.errors import DataError
from zoo.training.data.cells import display
from zoo.training.data.table import Numbered, Table, in_memory
from zoo.training.data.tables import reading_text

SUFFIXES = (".conll", ".conll03", ".txt", ".iob", ".iob2", ".bio", ".bioes", ".annotated", ".ner", "")
_BLANK = " \t\r\n\ufeff"  # not str.strip(): words of non-breaking spaces do occur
_COMMENT = re.compile(r"#\s?(id|sent_id|text|newdoc|newpar|begin|end)\b")
_DOCSTART = "-DOCSTART-"


@dataclass
class _Sentences:
    tokens: list[list[str]] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    open: bool = False

    def add(self, token: str, tag: str, line: int) -> None:
        if not self.open:
            self.tokens.append([])
            self.tags.append([])
            self.lines.append(line)
            self.open = True
        self.tokens[-1].append(token)
        self.tags[-1].append(tag)


def open_conll(path: str) -> Table:
    """The sentences as a table of `tokens` and `tags`: the first and the last column of the file.

    Columns are split by tabs, or else by spaces; blank lines and -DOCSTART- lines end a sentence. Raises DataError
    that names the line where the number of columns is not that of the lines before.
    """
    found = _Sentences()
    width = 0
    with reading_text(path) as file:
        for number, line in enumerate(file, start=1):
            text = line.strip("\r\n\ufeff")
            if not text.strip(_BLANK) or text.startswith(_DOCSTART) or _COMMENT.match(text):
                found.open = False
                continue
            cells = _split(text)
            width = width or len(cells)
            if len(cells) != width or width < 2 or not cells[0] or not cells[-1]:
                raise _fault(path, number, cells, width)
            found.add(cells[0], cells[-1], number)
    if not found.tokens:
        raise DataError(f"{display(path)} has no sentences; each line is a word, a tab or space, and its tag.")
    order = np.arange(1, len(found.lines) + 1)
    naming = Numbered(path, order, np.array(found.lines, dtype=np.int64), word="sentence")
    return in_memory(display(path), {"tokens": found.tokens, "tags": found.tags}, naming)


def looks_like_conll(path: str) -> bool:
    """Whether a file of an unknown ending begins with words and tags."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:
        return True
    with open(path, "rb") as file:
        head = file.read(4096).decode("utf-8", "replace").splitlines()[:-1]
    widths = {len(_split(line)) for line in head if line.strip(_BLANK) and not line.startswith(_DOCSTART)}
    return len(widths) == 1 and widths.pop() >= 2


def _split(text: str) -> list[str]:
    if "\t" in text:
        return [cell.strip(" ") for cell in text.rstrip("\t ").split("\t")]
    return [cell for cell in text.split(" ") if cell]


def _fault(path: str, number: int, cells: list[str], width: int) -> DataError:
    if len(cells) < 2:
        reason = f"has one column, {cells[0]!r}"
    elif len(cells) != width:
        reason = f"has {len(cells)} columns and the lines before it {width}"
    else:
        reason = f"has an empty {'tag' if cells[0] else 'word'}"
    return DataError(
        f"{display(path)} line {number} {reason}. Each line is a word, a tab or space, and its tag.", row=number
    )
