"""`zoo list`, `zoo info`, `zoo schema`, `zoo pull`: what there is."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo import bundle, catalog
from zoo.cli.loading import Name, Revision
from zoo.cli.shared import AsJson, emit, readable
from zoo.spec import ModelSpec, card


@readable
def list_(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A shell pattern over names, as in 'resnet*'.")
    ] = "*",
    modality: Annotated[str | None, typer.Option(help="text, vision or audio.")] = None,
    task: Annotated[str | None, typer.Option(help="Only models that can do this task.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models of the catalogue."""
    specs = [zoo.info(name) for name in zoo.list_models(pattern, modality=modality, task=task)]
    if as_json:
        keys = ("name", "aliases", "title", "modality", "tasks", "backend", "parameters", "license")
        emit([{key: getattr(spec, key) for key in keys} for spec in specs])
        return
    typer.echo(_table(specs) if specs else f"No model of the catalogue fits {pattern!r} and these options.")


def _table(specs: list[ModelSpec]) -> str:
    """Name, parameters and tasks in 80 columns; further tasks stand on lines of their own."""
    width = max(len("MODEL"), *(len(spec.name) for spec in specs))
    lines = [f"{'MODEL':<{width}}  {'PARAMS':>8}  TASKS"]
    for spec in specs:
        size = f"{spec.parameters / 1e6:,.1f} M" if spec.parameters else "?"
        for index, line in enumerate(_wrap(spec.tasks, 80 - width - 12)):
            lines.append(f"{spec.name:<{width}}  {size:>8}  {line}" if not index else f"{'':<{width + 12}}{line}")
    return "\n".join(lines)


def _wrap(tasks: tuple[str, ...], width: int) -> list[str]:
    lines = [tasks[0]]
    for task in tasks[1:]:
        if len(lines[-1]) + len(task) + 3 <= width:
            lines[-1] += f", {task}"
        else:
            lines[-1] += ","
            lines.append(task)
    return lines


@readable
def info(name: Name, revision: Revision = None, as_json: AsJson = False) -> None:
    """Show what a model is: its input, labels, weights, licence, paper."""
    path = Path(name).expanduser()
    if bundle.is_folder(path):
        found = bundle.read_card(path)
        emit(found) if as_json else typer.echo(_folder(found))
        return
    spec = _spec(name, revision)
    emit(spec) if as_json else typer.echo(str(spec))


def _folder(found: bundle.Card) -> str:
    kind = {"model": "a saved model", "bundle": "an exported bundle"}[found.kind]
    lines = [card(found.spec), "", f"This is {kind}, for {found.task}, written by polyzoo {found.zoo}."]
    if found.parity is not None:
        lines.append(
            f"Largest difference from torch {found.parity.max_abs_difference:.3g}, "
            f"{found.parity.agreement:.2%} of {found.parity.samples} results the same."
        )
    return "\n".join(lines)


def _spec(name: str, revision: str | None) -> ModelSpec:
    if ":" not in name:
        return zoo.info(name)
    from zoo import backends

    return backends.resolve(name, revision=revision)


class Subject(StrEnum):
    model = "model"
    finetune = "finetune"


@readable
def schema(
    subject: Annotated[
        Subject, typer.Argument(metavar="SUBJECT", help="A model's YAML file, or the options of fine-tuning.")
    ] = Subject.model,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
) -> None:
    """Print a JSON Schema, for editors and machines."""
    found: dict[str, Any]
    found = catalog.schema() if subject is Subject.model else zoo.TrainConfig.model_json_schema()
    typer.echo(json.dumps(found, indent=2))


@readable
def pull(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names, as `zoo load` takes them.")],
    revision: Revision = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the weights of models into the cache, to use them offline later."""
    from zoo import backends

    for name in models:
        spec = _spec(name, revision)
        if revision is not None and spec.weights is not None:
            spec = spec.evolve(weights={**spec.weights.to_dict(), "revision": revision})
        backends.pull(spec)
        assert spec.weights is not None
        if as_json:
            emit({"name": name, "repo": spec.weights.repo, "revision": spec.weights.revision}, indent=None)
        else:
            typer.echo(f"{name}: {spec.weights.repo} is in the cache.")
