"""The models by name: one YAML each in `hub_configs/`, and the label sets beside them.

No list of names stands anywhere else: a name is the stem of its file, its folder is its modality. Looking
a name up reads that one file; aliases and filters by task need the index, a light pass over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import yaml

from zoo.errors import ConfigError, SpecError, UnknownModel, suggest
from zoo.spec import TASK_ALIASES, Modality, ModelSpec, TaskName
from zoo.strict import json_schema

# Several times quicker, and absent where PyYAML was built without libyaml. The index trusts the files:
# `info` parses the one asked for strictly.
_QuickLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the index knows of one model."""

    aliases: tuple[str, ...]
    tasks: tuple[str, ...]


def folder() -> Path:
    """The catalogue's folder: inside the package in a wheel, beside it in a checkout."""
    packaged = Path(__file__).parent / "hub_configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "hub_configs"


def list_models(pattern: str = "*", *, modality: str | None = None, task: str | None = None) -> list[str]:
    """Sorted names of the catalogue.

    pattern: a shell pattern over names, as in "resnet*"; capitals and underscores don't matter.
    modality, task: only models of this modality; only models that can do this task. "image-feature-extraction" is
        feature-extraction of images.
    Raises ConfigError for a modality or a task that does not exist.
    """
    _check("modality", modality, get_args(Modality))
    if task is not None and task in TASK_ALIASES:
        task, of = TASK_ALIASES[task]
        if modality not in (None, of):
            return []
        modality = of
    _check("task", task, get_args(TaskName))
    return [
        name
        for name, path in _files().items()
        if fnmatchcase(name, _key(pattern))
        and (modality is None or path.parent.name == modality)
        and (task is None or task in _index()[name].tasks)
    ]


def info(name: str) -> ModelSpec:
    """The spec of a catalogue name or alias. A label set in it is still a name; see `labels`.

    Capitals and underscores don't matter: `ResNet50`, `vgg16_bn`.
    Raises UnknownModel with the closest name.
    """
    files = _files()
    path = files.get(_key(name)) or files.get(_aliases().get(_key(name), ""))
    if path is None:
        raise _unknown(name)
    return ModelSpec.parse(path.read_text(encoding="utf-8"), where=str(path))


def labels(spec: ModelSpec) -> tuple[str, ...]:
    """The labels of a spec in the order of its logits; a label set's name is resolved, none is `()`.

    Raises SpecError for a label set that is not there.
    """
    if not isinstance(spec.labels, str):
        return spec.labels or ()
    sets = {path.stem: path for path in sorted((folder() / "labels").glob("*.txt"))}
    if spec.labels not in sets:
        raise SpecError(
            f"{spec.name}: there is no label set {spec.labels!r}.{suggest(spec.labels, sets)} "
            f"Name one of: {', '.join(sets) or 'none'}; or list the labels themselves."
        )
    return tuple(sets[spec.labels].read_text(encoding="utf-8").removesuffix("\n").split("\n"))


def schema() -> dict[str, Any]:
    """The JSON Schema of one YAML file, for editors and for `zoo schema`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json_schema(ModelSpec)}


def _key(name: str) -> str:
    return name.lower().replace("_", "-")


def _check(option: str, value: str | None, allowed: Iterable[str]) -> None:
    if value is not None and value not in allowed:
        raise ConfigError(f"There is no {option} {value!r}.{suggest(value, allowed)} Allowed: {', '.join(allowed)}.")


def _unknown(name: str) -> UnknownModel:
    closest = suggest(_key(name), [*_files(), *_aliases()])
    return UnknownModel(f"Unknown model {name!r}.{closest} zoo.list_models() lists all {len(_files())}.")


@cache
def _files() -> Mapping[str, Path]:
    """The file of each name, sorted by name."""
    found = {path.stem: path for kind in get_args(Modality) for path in (folder() / kind).glob("*.yaml")}
    return MappingProxyType(dict(sorted(found.items())))


@cache
def _index() -> Mapping[str, _Entry]:
    entries = {}
    for name, path in _files().items():
        data = yaml.load(path.read_bytes(), Loader=_QuickLoader)
        entries[name] = _Entry(tuple(data.get("aliases", ())), tuple(data["tasks"]))
    return MappingProxyType(entries)


@cache
def _aliases() -> Mapping[str, str]:
    """The name of each alias."""
    return MappingProxyType({_key(alias): name for name, entry in _index().items() for alias in entry.aliases})
