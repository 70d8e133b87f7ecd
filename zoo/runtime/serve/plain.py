"""`POST /predict/{name}`: texts, rows or files in, typed results out, by JSON or by a form."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from zoo.results import RowError
from zoo.runtime.serve.answers import awaited, parsed
from zoo.runtime.serve.bodies import Budget, body_of
from zoo.runtime.serve.inputs import Reader, json_of
from zoo.runtime.serve.refusals import Refusal, reply
from zoo.runtime.serve.settings import Limits
from zoo.runtime.serve.shelf import Loaded, Shelf

_KEYS = ("inputs", "options", "on_error")


class Question(NamedTuple):
    """rows: raw inputs; several: whether a list was given; key: the options as one text."""

    rows: list[Any]
    several: bool
    options: dict[str, Any]
    key: str
    on_error: str


async def predict(request: Request, shelf: Shelf, limits: Limits, budget: Budget) -> Response:
    name = request.path_params["name"]
    async with body_of(request, limits, budget) as body:
        with shelf.use(name) as loaded:
            request.state.model = name
            return await _predict(request, body, loaded, limits)


async def _predict(request: Request, body: bytes, loaded: Loaded, limits: Limits) -> Response:
    question = await question_of(request, body, loaded.reader, limits)
    work = loaded.predict(question.rows, question.options, question.key)
    results = await awaited(request, work, seconds=limits.timeout)
    return await parsed(len(body), functools.partial(_answer, loaded, question, results))


async def question_of(request: Request, body: bytes, reader: Reader, limits: Limits) -> Question:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        given = functools.partial(_of_json, body, reader)
    elif kind == "multipart/form-data":
        given = functools.partial(_of_form, await _form(request, body, limits), reader)
    else:
        raise Refusal(415, "Send application/json, or multipart/form-data with files.")
    return await parsed(len(body), given, heavy=reader.media)


def _of_json(body: bytes, reader: Reader) -> Question:
    given = json_of(body)
    if not isinstance(given, dict) or "inputs" not in given or not set(given) <= set(_KEYS):
        raise Refusal(400, f'The body is an object: {{"inputs": ...}}, and may have {", ".join(_KEYS[1:])}.')
    rows, several = reader.rows(given["inputs"])
    key, options = reader.options(given.get("options", {}))
    return Question(rows, several, options, key, _on_error(given.get("on_error", "raise")))


def _of_form(form: list[tuple[str, Any]], reader: Reader) -> Question:
    settings = {name: value for name, value in form if name in _KEYS[1:]}
    inputs = [value for name, value in form if name not in _KEYS[1:]]
    for value in settings.values():
        if isinstance(value, bytes):
            raise Refusal(400, "options and on_error are fields of a form, not files.")
    rows, _ = reader.rows(inputs)
    key, options = reader.options(json_of(settings.get("options", "{}").encode("utf-8", "surrogatepass")))
    return Question(rows, len(rows) > 1, options, key, _on_error(settings.get("on_error", "raise")))


async def _form(request: Request, body: bytes, limits: Limits) -> list[tuple[str, Any]]:
    """The fields in order: a file as bytes, another as a text."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    most = limits.max_rows + len(_KEYS)
    parser = MultiPartParser(
        request.headers, stream(), max_files=most, max_fields=most, max_part_size=limits.body_bytes  # type: ignore[arg-type]
    )  # fmt: skip
    parser.spool_max_size = limits.body_bytes + 1  # it is in memory already: nothing goes to a disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        raise Refusal(400, "The form can't be read: it is damaged, or has too many parts.") from error
    try:
        return [(n, await v.read() if isinstance(v, UploadFile) else v) for n, v in form.multi_items()]
    finally:
        await form.close()


def _on_error(value: Any) -> str:
    if value not in ("raise", "return"):
        raise Refusal(400, 'on_error is "raise" (one bad input refuses the request) or "return" (in its place).')
    return str(value)


def _answer(loaded: Loaded, question: Question, results: list[Any]) -> Response:
    """One input gives `result`, a list `results` in the order given."""
    for index, result in enumerate(results):
        if isinstance(result, RowError) and (question.on_error == "raise" or not question.several):
            where = f"Input {index}: " if question.several else ""
            raise Refusal(400, where + result.message)
    found = [{"error": result.message} if isinstance(result, RowError) else result for result in results]
    head = {"model": loaded.name, "task": loaded.model.card.task}
    return reply(head | ({"results": found} if question.several else {"result": found[0]}))
