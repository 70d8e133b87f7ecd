"""What stands in one cell, by the role of its column: a text, a label, the path of an image, words, tags."""

from __future__ import annotations

import ast
import io
import itertools
import json
import math
import os
import tokenize
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from zoo.errors import DataError
from zoo.modalities.base import respelled
from zoo.plain import load_json
from zoo.tasks.boxes import Objects, objects_of
from zoo.tasks.labels import label_text
from zoo.tasks.masks import Mask

MEDIA = ("image", "audio", "mask")
# Roles whose cells are no plain text: a task with another kind of cell adds its role here and in `Cell.read`.
_OTHERS = (*MEDIA, "tokens", "tags", "label", "labels", "value", "answers", "answer", "answer_start", "objects")
# Empty cells of these say that a question has no answer.
_MAY_BE_EMPTY = ("answer", "answer_start")
_PANDAS_MISSING = ("NAType", "NaTType")


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that could not be taken apart. It stands in each of its cells until the row is asked for."""

    message: str


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """How the cells of one column are read.

    role: "label", "labels" (a list), "value" (a number), "image", "audio", "mask", "objects", "tokens" or "tags"; of an
        answer: "answers", "answer", "answer_start"; any other is a text's: "text", "text_pair", "question", ...
    folder: what relative paths of media are relative to; None leaves them as they are.
    names: the labels that stand behind whole numbers (a ClassLabel's names).
    written: cells are texts out of a file: white space around them means nothing, lists are JSON or spaced words.
    """

    role: str
    folder: str | None = None
    names: tuple[str, ...] | None = None
    written: bool = False

    def read(self, value: Any) -> Any:
        """The cell as the encoder or the task takes it. Raises DataError that says what is wrong with it."""
        if isinstance(value, Broken):
            raise DataError(value.message)
        value = plain(value)
        if self.role in _MAY_BE_EMPTY and (missing(value) or value == ""):
            return "" if self.role == "answer" else None
        if missing(value) or (self.written and isinstance(value, str) and not value.strip()):
            raise DataError("the cell is empty")
        read: dict[str, Callable[[Any], Any]] = {
            "image": self._media,
            "audio": self._media,
            "tokens": self._words,
            "tags": self._tags,
            "label": self._label,
            "labels": self._labels,
            "value": self._value,
            "mask": self._mask,
            "answers": self._answers,
            "answer_start": self._place,
            "objects": self._objects,
        }
        return read.get(self.role, self._text)(value)

    def check(self, value: Any) -> Any:
        """As `read`, and the faults that would only show later: a label that is none, a file that is not there."""
        found = self.read(value)
        if self.role == "label":
            label_text(found)
        if self.role in ("tags", "labels"):
            for tag in found:
                if not isinstance(tag, str) or not tag.strip():
                    label_text(tag)
        file = found.raw if isinstance(found, Mask) else found
        if self.role in MEDIA and isinstance(file, str):
            _exists(file)
        return found

    def plainly_good(self, value: Any) -> bool:
        """Whether there is nothing to check: most cells of most tables, which may be millions."""
        if self.role == "value":
            return type(value) is float and math.isfinite(value)
        return type(value) is str and (self.role == "label" or self.role not in _OTHERS) and bool(value.strip())

    def _text(self, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, (list, tuple)) and value and all(isinstance(word, str) for word in value):
            return list(value)
        raise DataError(f"a text is expected, not {_shown(value)}")

    def _label(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.strip() if self.written else value
        if self.names is None or isinstance(value, bool):
            return value
        number = int(value) if hasattr(value, "__index__") else -1
        if not 0 <= number < len(self.names):
            raise DataError(f"the label is missing ({value!r} stands for none of the {len(self.names)} names)")
        return self.names[number]

    def _labels(self, value: Any) -> list[Any]:
        if isinstance(value, (set, frozenset)):
            value = sorted(value)
        if isinstance(value, str) and self.written:
            found = [self._label(label) for label in written_list(value)]
            if any(isinstance(label, str) and label.endswith((",", ";")) for label in found):
                raise DataError(
                    f'{_shown(value)} has commas; labels are a JSON list, ["a", "b"], or have spaces between'
                )
            return found
        several = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
        return [self._label(label) for label in self._list(value)] if several else [self._label(value)]

    def _answers(self, value: Any) -> Any:
        if isinstance(value, str) and self.written and value.lstrip()[:1] in ("{", "["):
            try:
                value = load_json(value)
            except ValueError as error:
                raise DataError(f"{_shown(value)} is not valid JSON ({error})") from error
        if isinstance(value, (str, list, tuple, Mapping)):
            return value
        if hasattr(value, "tolist"):
            return value.tolist()
        raise DataError(f"answers are a text, or 'text' and 'answer_start', not {_shown(value)}")

    def _place(self, value: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or isinstance(value, bool) or (isinstance(value, float) and number != value):
            raise DataError(f"a whole number of characters is expected, not {_shown(value)}")
        return number

    def _value(self, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, (bool, bytes)) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or (isinstance(value, str) and not self.written):
            raise DataError(f"a finite number is expected, not {_shown(value)}")
        return number

    def _tags(self, value: Any) -> list[Any]:
        return [self._label(tag) for tag in self._list(value)]

    def _objects(self, value: Any) -> Objects:
        return objects_of(json_of(value) if isinstance(value, str) else value, self.names)

    def _words(self, value: Any) -> list[str]:
        words = self._list(value)
        for word in words:
            if not isinstance(word, str):
                raise DataError(f"each token is a text, not {_shown(word)}")
        if not words:
            raise DataError("there are no tokens")
        return words

    def _list(self, value: Any) -> list[Any]:
        if isinstance(value, str):
            if self.written:
                return written_list(value)
            raise DataError(f"a list of {self.role} is expected, not the text {_shown(value)}")
        if hasattr(value, "tolist"):
            value = value.tolist()
        if not isinstance(value, (list, tuple)):
            raise DataError(f"a list of {self.role} is expected, not {_shown(value)}")
        return [plain(item) for item in value]

    def _media(self, value: Any) -> Any:
        if isinstance(value, dict) and ("bytes" in value or "path" in value):
            # What the Hugging Face library gives for a file that it does not decode.
            value = value.get("bytes") or value.get("path")
            if value is None:
                raise DataError("the cell has neither bytes nor a path")
        if isinstance(value, (str, os.PathLike)):
            return self._path(os.fspath(value))
        return bytes(value) if isinstance(value, (bytearray, memoryview)) else value

    def _mask(self, value: Any) -> Mask:
        return value if isinstance(value, Mask) else Mask(self._media(value), self.names or ())

    def _path(self, path: Any) -> str:
        name = os.fsdecode(path)
        if self.written:
            name = name.strip()
        if "://" in name:
            raise DataError(f"{name!r} is an address, and nothing is ever fetched: download it and give the file")
        return respelled(os.path.join(self.folder, name) if self.folder else name)


@final
@dataclass(frozen=True, slots=True)
class Whole:
    """How an input of several roles is read that stands in one place: as a dict by role.

    Where one role is required alone, its cell may stand there without a dict.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    role: str = "input"

    def read(self, value: Any) -> Any:
        """As `Cell.read`: a dict by role, or the cell of the one role."""
        return self._each(value, Cell.read)

    def check(self, value: Any) -> Any:
        return self._each(value, Cell.check)

    def plainly_good(self, value: Any) -> bool:
        return len(self.required) == 1 and Cell(self.required[0]).plainly_good(value)

    def _each(self, value: Any, read: Callable[[Cell, Any], Any]) -> Any:
        if isinstance(value, Broken) or not self.fits(value):
            if len(self.required) == 1 and not (isinstance(value, Mapping) and self.optional):
                return read(Cell(self.required[0]), value)
            if isinstance(value, Broken):
                raise DataError(value.message)
            optional = f", and may have {', '.join(map(repr, self.optional))}" if self.optional else ""
            raise DataError(
                f"a dict is expected that has {', '.join(map(repr, self.required))}{optional}, not {_shown(value)}"
            )
        return {role: self._one(role, cell, read) for role, cell in value.items()}

    def fits(self, value: Any) -> bool:
        """Whether it is a dict with these roles and no others."""
        if not isinstance(value, Mapping) or not set(self.required) <= set(value):
            return False
        return set(value) <= {*self.required, *self.optional}

    def _one(self, role: str, cell: Any, read: Callable[[Cell, Any], Any]) -> Any:
        try:
            return read(Cell(role), cell)
        except DataError as error:
            raise DataError(f"{role!r}: {error}") from error


def missing(value: Any) -> bool:
    """None, NaN, and pandas' NA and NaT."""
    if value is None or type(value).__name__ in _PANDAS_MISSING:
        return True
    return isinstance(value, float) and math.isnan(value)


def plain(value: Any) -> Any:
    """A torch tensor as a NumPy array, an array of one value as that value; anything else as it is."""
    if isinstance(value, str):
        return value
    if hasattr(value, "detach") and type(value).__module__.partition(".")[0] == "torch":
        value = value.detach().cpu().numpy()
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return value


def json_of(text: str) -> Any:
    """A cell of a .csv, or of a column of texts, that holds JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{_shown(text)} is not JSON ({error})") from error


def written_list(text: str) -> list[Any]:
    """A list in one cell: JSON (`["New", "York"]`), Python's own writing of it, or words with spaces between."""
    stripped = text.strip()
    if stripped.startswith("[") and stripped.endswith("]"):
        for parse in (json.loads, _literal):
            try:
                found = parse(stripped)
            except (ValueError, SyntaxError, RecursionError):
                continue
            if isinstance(found, list):
                return found
        if stripped[1:].lstrip()[:1] in ("'", '"'):
            raise DataError(f"{_shown(stripped)} is not a list in JSON; json.dumps() writes one")
    return stripped.split()


def _literal(text: str) -> Any:
    """A list as `str()` writes it. NumPy's writing has no commas, and Python would join its words into one."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    if any(a == b == tokenize.STRING for a, b in itertools.pairwise(kinds)):
        raise ValueError("there are no commas between the words")
    return ast.literal_eval(text)


def display(path: str) -> str:
    """A path that can be printed, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def agree(tokens: Sequence[Any], tags: Sequence[Any]) -> None:
    """Raises DataError unless there is one tag a token."""
    if len(tokens) != len(tags):
        raise DataError(f"there are {len(tokens)} tokens and {len(tags)} tags; give one tag for each token")


def _exists(path: str) -> None:
    if not os.path.isfile(path):
        what = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
        raise DataError(f"the file {display(path)!r} {what}")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
