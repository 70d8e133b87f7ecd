"""What `zoo predict` prints, with `--stream` too; and what `--output` writes: a picture with the answer drawn over it,
or the sound of a speech."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zoo import terminal
from zoo.cli.inputs import as_raw
from zoo.cli.shared import emit, note
from zoo.errors import ConfigError
from zoo.results import (
    Answer,
    Classification,
    Detection,
    Entity,
    FilledMask,
    Generation,
    MultiLabel,
    NextSentence,
    Regression,
    RowError,
    Segmentation,
    Speech,
    Transcript,
)

if TYPE_CHECKING:
    from zoo.predictor import Predictor

_LONGEST = 40  # of a file's name that is made of a text


def print_answers(answered: Iterable[tuple[Any, str]], as_json: bool) -> None:
    """Each as it comes. Raises typer.Exit where one is an error."""
    failed = 0
    for result, text in answered:
        failed += isinstance(result, RowError)
        if as_json:
            emit({"input": text, "error" if isinstance(result, RowError) else "result": result}, indent=None)
        else:
            typer.echo("\n".join([terminal.fit(text, 80), *(f"  {line}" for line in _lines(result))]))
    if failed:
        note(f"zoo: {failed} input{'s' * (failed != 1)} could not be used; the reasons stand in the results' places.")
        raise typer.Exit(1)


def _lines(result: Any) -> list[str]:
    """A result for people."""
    match result:
        case Classification():
            return [f"{score:.4f}  {label}" for label, score in result.top or ((result.label, result.score),)]
        case MultiLabel():
            found = [f"{score:.4f}  {label}" for label, score in zip(result.labels, result.scores, strict=True)]
            return found or ["no label"]
        case Answer():
            return [_answer(answer) for answer in result.top or (result,)]
        case Regression():
            return [f"{result.value:.6g}"]
        case Generation():
            return result.text.splitlines() or [""]
        case Transcript():
            timed = [f"{part.start:7.2f} - {part.end:7.2f}  {part.text}" for part in result.segments or result.words]
            return timed or [result.text]
        case Speech():
            return [f"{result.seconds:.2f} s of speech, {result.sampling_rate} Hz"]
        case NextSentence():
            return [f"{result.score:.4f}  {'follows' if result.follows else 'does not follow'}"]
        case FilledMask():
            return [f"{result.score:.4f}  {result.text!r}  {result.sequence}"]
        case Entity():
            return [f"{result.label}  {result.text!r}  {result.start}:{result.end}  {result.score:.4f}"]
        case Detection():
            return [f"{result.score:.4f}  {result.label}  {tuple(round(edge, 1) for edge in result.box)}"]
        case Segmentation():
            return [f"{segment.area:7.2%}  {segment.score:.4f}  {segment.label}" for segment in result.segments]
        case RowError():
            return [f"{result.error}: {result.message}"]
        case list():
            return [line for item in result for line in _lines(item)] or ["nothing found"]
        case _:
            values = [f"{value:.4f}" for value in result[:6].tolist()]
            return [f"{result.dtype} [{', '.join(map(str, result.shape))}]: {', '.join(values)}, ..."]


def _answer(answer: Answer) -> str:
    return (
        f"{answer.score:.4f}  {answer.start}:{answer.end}  {answer.text!r}"
        if answer.text
        else (f"{answer.score:.4f}  no answer")
    )


def written(answered: Iterable[tuple[Any, str]], output: Path, *, several: bool) -> Iterator[tuple[Any, str]]:
    """The same answers, each written on the way: to a file, or into a folder under the input's name."""
    names: set[str] = set()
    for result, text in answered:
        if not isinstance(result, RowError):
            target = output / _unused(*_name(result, text), names) if several else output
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(result, text, target)
        yield result, text


def print_stream(predictor: Predictor, texts: Iterable[str], options: Mapping[str, Any]) -> None:
    """Each input and what is written about it, in pieces as they are generated."""
    for text in texts:
        pieces = predictor.stream(as_raw(text, predictor), **options)
        sys.stdout.write(f"{terminal.fit(text, 80)}\n  ")
        for piece in pieces:
            sys.stdout.write(piece.replace("\n", "\n  "))
            sys.stdout.flush()
        sys.stdout.write("\n")


def _name(result: Any, text: str) -> tuple[str, str]:
    """Stem and ending of a file in a folder."""
    if isinstance(result, Speech):
        return re.sub(r"[^\w-]+", "-", text)[:_LONGEST].strip("-") or "speech", ".wav"
    return Path(text).stem, ".png"


def _unused(stem: str, ending: str, names: set[str]) -> str:
    name, number = f"{stem}{ending}", 1
    while name in names:
        number += 1
        name = f"{stem}-{number}{ending}"
    names.add(name)
    return name


def _write(result: Any, text: str, target: Path) -> None:
    if isinstance(result, Speech):
        result.save(target)
        return
    if not hasattr(result, "overlay"):
        raise ConfigError(f"--output writes pictures and speech, and a {type(result).__name__} has none.")
    try:
        result.overlay(text).save(target)
    except ValueError as error:
        raise ConfigError(f"--output {target}: {error}. Name a picture, as in out.png.") from error
