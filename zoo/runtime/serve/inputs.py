"""What a client sends, as raw inputs of `predict()`: texts, rows, the bytes of files. Never a path or an address.

Our encoders open a text that is given for an image or a recording as a file. A client's text must not get there:
media are bytes here, or an array, and what is neither is refused.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from zoo.errors import ConfigError
from zoo.modalities import recordings
from zoo.modalities.base import shorten
from zoo.modalities.image import header
from zoo.modalities.towers import TEXT, TowersEncoder
from zoo.predictor import Predictor
from zoo.runtime.raw import raw_kind
from zoo.runtime.serve.refusals import Refusal
from zoo.runtime.serve.settings import Limits

_RATE = 768_000  # Hz, the highest that recordings may have
# Options that name a file of this machine.
_FILES = ("lm",)
# Options whose cost grows with them, and the most that is taken.
_MOST = {"num_beams": 16, "beam_width": 1000, "top_k": 1_000_000}
_MOST_LABELS = 100
_BASE64 = '{"base64": "..."}'


@final
class Reader:
    """A model's inputs and options as they come from clients. Every method raises Refusal: 400 or 413."""

    def __init__(self, model: Predictor, limits: Limits) -> None:
        task, encoder = model.task, model.encoder
        self._limits = limits
        self._task = task
        self._text = encoder.text.input if isinstance(encoder, TowersEncoder) else None
        self.kind = raw_kind(model.spec)
        self.columns = (task.columns[0], *task.more_inputs) if self.kind == "text" else ()
        self.optional = task.optional_inputs if self.kind == "text" else ()
        self._rate = getattr(task.spec.input, "sampling_rate", 0)
        self._without: tuple[str, dict[str, Any]] | None = None  # what `options` gives for none, once that was checked

    @property
    def media(self) -> bool:
        return self.kind in ("image", "audio")

    def rows(self, value: Any) -> tuple[list[Any], bool]:
        """(raw inputs, whether a list was given). value: JSON's, or what a form holds."""
        several = isinstance(value, list)
        given = value if several else [value]
        if not given:
            raise Refusal(400, "inputs is an empty list; give at least one input.")
        if len(given) > self._limits.max_rows:
            raise Refusal(413, f"{len(given)} inputs came; up to {self._limits.max_rows} are taken in one request.")
        return [self.raw(item) for item in given], several

    def raw(self, value: Any) -> Any:
        """One raw input, of a size that is allowed."""
        if self.kind == "text":
            return self._texts(value)
        if self.kind == "row":
            return self._row(value)
        if isinstance(value, Mapping) and self._text is not None and set(value) <= {self.kind, TEXT} and value:
            return {key: self._words(item) if key == TEXT else self._media(item) for key, item in value.items()}
        return self._media(value)

    def element(self, element: str | bytes) -> Any:
        """An element of BYTES as `raw` takes it: a text; a file's bytes, or in JSON its base64; JSON for a row, and for
        an input of several columns."""
        if self.media:
            return {"base64": element} if isinstance(element, str) else element
        text = element if isinstance(element, str) else element.decode("utf-8", "surrogateescape")
        several = len(self.columns) + len(self.optional) > 1
        if self.kind != "row" and not several:
            return text
        found = _object(text)
        # A text may begin with a brace, and be no object of columns.
        return text if found is None or (several and self.columns[0] not in found) else found

    def options(self, given: Any) -> tuple[str, dict[str, Any]]:
        """Options of `predict()`, checked, and as one text by which requests with the same are told."""
        if not isinstance(given, dict):
            raise Refusal(400, f"options is {_shown(given)}; give an object.")
        if not given and self._without is not None:
            return self._without
        for name, value in given.items():
            self._option(name, value)
        try:
            self._task.parse_options(given)
        except ConfigError as error:
            raise Refusal(400, str(error)) from error
        # A dataclass's own checks meet types here that a person would not write.
        except (TypeError, ValueError) as error:
            raise Refusal(400, "An option has a value of another type than it takes.") from error
        found = json.dumps(given, sort_keys=True), given
        if not given:
            self._without = found
        return found

    def _option(self, name: str, value: Any) -> None:
        if name in _FILES:
            raise Refusal(400, f"The option {name!r} names a file, and the server opens none for a client.")
        most = {**_MOST, "max_new_tokens": self._limits.max_new_tokens, "min_new_tokens": self._limits.max_new_tokens}
        if name in most and isinstance(value, (int, float)) and value > most[name]:
            raise Refusal(413, f"{name} is {shorten(str(value))}; up to {most[name]} is taken.")
        if name == "candidate_labels" and isinstance(value, (list, str)):
            labels = value.split(",") if isinstance(value, str) else value
            if len(labels) > _MOST_LABELS:
                raise Refusal(413, f"{len(labels)} candidate_labels came; up to {_MOST_LABELS} are taken.")
        if len(json.dumps(value)) > self._limits.max_characters:
            raise Refusal(413, f"The option {shorten(name)!r} is longer than {self._limits.max_characters} characters.")

    def _texts(self, value: Any) -> Any:
        """A text, its words, or the texts of an input of several columns."""
        if not isinstance(value, Mapping):
            return self._words(value)
        known = {*self.columns, *self.optional}
        if not set(value) <= known or not set(self.columns) <= set(value):
            more = f" (and may have {', '.join(self.optional)})" if self.optional else ""
            raise Refusal(400, f"An object with {_keys(value)} came; this model's has {', '.join(self.columns)}{more}.")
        return {key: self._words(item) for key, item in value.items()}

    def _words(self, value: Any) -> str | list[str]:
        words = value if isinstance(value, list) else [value]
        if isinstance(value, bytes):
            return self._words(_utf8(value))
        if not all(isinstance(word, str) for word in words):
            raise Refusal(400, f"A text was expected, and {_shown(value)} came.")
        length = sum(map(len, words))
        if length > self._limits.max_characters:
            raise Refusal(413, f"A text has {length} characters; up to {self._limits.max_characters} are taken.")
        return value  # type: ignore[no-any-return]

    def _row(self, value: Any) -> Any:
        if isinstance(value, bytes):
            value = json_of(value)
        if not isinstance(value, Mapping):
            raise Refusal(400, f'A row was expected, {{"column": value, ...}}, and {_shown(value)} came.')
        length = len(json.dumps(value))
        if length > self._limits.max_characters:
            raise Refusal(413, f"A row has {length} characters; up to {self._limits.max_characters} are taken.")
        return dict(value)

    def _media(self, value: Any) -> Any:
        what = "An image" if self.kind == "image" else "A recording"
        if isinstance(value, Mapping) and set(value) == {"base64"}:
            value = _from_base64(value["base64"])
        elif self.kind == "audio" and isinstance(value, Mapping) and set(value) == {"array", "sampling_rate"}:
            return self._array(value["array"], value["sampling_rate"])
        if not isinstance(value, bytes):
            raise Refusal(
                400,
                f"{what} was expected, and {_shown(value)} came. Upload the file as multipart/form-data, or give "
                f"{_BASE64}. No path and no address is opened for a client.",
            )
        if not value:
            raise Refusal(400, f"{what} was expected, and the file is empty.")
        if self.kind == "image":
            width, height = header(value)
            if width * height > self._limits.max_pixels:
                raise Refusal(
                    413, f"The image has {width} x {height} pixels; up to {self._limits.max_pixels:,} in all are taken."
                )
        else:
            self._check_seconds(recordings.seconds(value, self._rate))
        return value

    def _array(self, values: Any, rate: Any) -> Any:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= _RATE:
            raise Refusal(400, f"sampling_rate is {_shown(rate)}; give Hz.")
        try:
            wave = np.asarray(values, dtype=np.float32)
        except (ValueError, TypeError, OverflowError) as error:
            raise Refusal(400, "array is no list of numbers.") from error
        if wave.ndim != 1:
            raise Refusal(400, "array is one list of numbers in [-1, 1]: one channel.")
        self._check_seconds(len(wave) / rate)
        return wave, rate

    def _check_seconds(self, seconds: float) -> None:
        if not seconds <= self._limits.max_seconds:
            raise Refusal(
                413, f"The recording is {seconds:.0f} s long; up to {self._limits.max_seconds:g} s are taken."
            )


def json_of(body: bytes) -> Any:
    """JSON in UTF-8, strictly. Raises Refusal (400)."""
    try:
        # As json.loads() reads bytes: half of a surrogate pair is left to those that the text is for.
        return _DECODER.decode(body.decode("utf-8-sig", "surrogatepass"))
    except ValueError as error:
        raise Refusal(400, f"The body is no JSON in UTF-8: {shorten(str(error), 120)}.") from error


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# json.loads() makes one for every text, where it is not the plain one.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _from_base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Refusal(400, f"base64 is {_shown(value)}; give the file's bytes as a base64 text.")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "base64 is no base64 (RFC 4648, without line breaks).") from error


def _utf8(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(400, "A text came that is not UTF-8.") from error


def _keys(value: Mapping[Any, Any]) -> str:
    return shorten(", ".join(repr(str(key)[:40]) for key in list(value)[:10]) or "nothing", 200)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float)):
        return shorten(json.dumps(value), 40)
    names: dict[type, str] = {str: "a text", list: "a list", dict: "an object", bytes: "a file"}
    return names.get(type(value), f"a {type(value).__name__}")


def option_names(model: Predictor) -> list[str]:
    """The options that clients may give."""
    return [field.name for field in dataclasses.fields(model.task.options) if field.name not in _FILES]
