"""Data that is read strictly and never changes: what a spec, a card or an index's names are made of.

Whether data fits is msgspec's to say: pydantic is imported as slowly as NumPy, and a bundle's first answer would wait
for it. It names the first fault; where there is one, all are looked for here.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, dataclass_transform, get_args, get_origin

import msgspec
from msgspec import structs

from zoo.errors import SpecError, suggest

END = r"$(?!\n)"  # of a pattern: `$` alone lets a line end come after it
_MOST_FAULTS = 20
_HALF = re.compile("[\ud800-\udfff]")
_WRONG = re.compile(r"Invalid (?:enum )?value (.*)", re.DOTALL)
_PLACE = re.compile(r" - at `(?:key` in `)?\$(.*)`$", re.DOTALL)


class _Strict(msgspec.StructMeta):
    """Of classes that are immutable and take no unknown key. One with a `kind` of its own is told from others by it."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> _Strict:
        config |= {"frozen": True, "kw_only": True, "forbid_unknown_fields": True}
        if "kind" in namespace:
            config |= {"tag_field": "kind", "tag": namespace["kind"]}
        return super().__new__(cls, name, bases, namespace, **config)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Frozen(msgspec.Struct, metaclass=_Strict, frozen=True):
    """Immutable data of named fields. It is checked where it is read, by `read`; an unknown key is an error there."""

    def to_dict(self, *, none: bool = True) -> dict[str, Any]:
        """All fields as JSON has them. none: also those that are None."""
        tag = self.__struct_config__.tag
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        shown = {name: _plain(value, none) for name, value in fields.items() if none or value is not None}
        return {str(self.__struct_config__.tag_field): tag, **shown} if tag is not None else shown


T = TypeVar("T", bound=Frozen)


def read(model: type[T], data: Any, *, where: str) -> T:
    """Plain data as a `model`. A SpecError lists every fault, the allowed keys' closest beside an unknown one."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: expected a mapping of keys, got {type(data).__name__}.")
    try:
        made: T = _made(model, data)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _refused(where, list(_faults(model, data, ())) or [_Fault((), str(error))]) from error
    if halves := list(_halves(made, ())):
        raise _refused(where, halves)
    return made


def json_schema(model: type[Frozen]) -> dict[str, Any]:
    """The JSON Schema of what `read` takes for a `model`."""
    _, parts = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    own = parts.pop(model.__name__)
    return {**own, "$defs": parts} if parts else own


def _made(kind: Any, data: Any) -> Any:
    # Not so strict about what YAML reads as something else: 1e-5 as a text, 30.0 for a whole number.
    return msgspec.convert(data, kind, strict=False)


def _plain(value: Any, none: bool) -> Any:
    if isinstance(value, Frozen):
        return value.to_dict(none=none)
    if isinstance(value, Mapping):
        return {key: _plain(item, none) for key, item in value.items()}
    return [_plain(item, none) for item in value] if isinstance(value, (list, tuple)) else value


# ----------------------------------------------------------------------------------------------------------- faults

_Place = tuple[str | int, ...]


class _Fault(NamedTuple):
    """unknown: what has no such key, where that is the fault."""

    place: _Place
    words: str = "unknown key."
    unknown: type[Frozen] | None = None

    def shown(self) -> str:
        # Looked for here: the closest key takes long to find, and not all of a thousand faults are shown.
        closest = suggest(str(self.place[-1]), _keys(self.unknown)) if self.unknown is not None else ""
        return f"{'.'.join(map(str, self.place)) or '(whole)'}: {self.words}{closest}"


def _refused(where: str, faults: list[_Fault]) -> SpecError:
    shown = [f"  {fault.shown()}" for fault in faults[:_MOST_FAULTS]]
    if len(faults) > _MOST_FAULTS:
        shown.append(f"  and {len(faults) - _MOST_FAULTS} more")
    return SpecError("\n".join([f"{where} is not valid:", *shown]))


def _halves(value: Any, place: _Place) -> Iterator[_Fault]:
    """Texts with half of a surrogate pair: JSON can spell one, and no file of ours can hold it."""
    if isinstance(value, str):
        if _HALF.search(value):
            yield _Fault(place, "it holds half of a character, a surrogate without the other")
    elif isinstance(value, Frozen):
        for name in value.__struct_fields__:
            yield from _halves(getattr(value, name), (*place, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _halves(item, (*place, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _halves(key, place)
            yield from _halves(item if isinstance(item, str) else None, (*place, key))


def _faults(kind: Any, data: Any, place: _Place) -> Iterator[_Fault]:
    """Where `data` is no `kind`, and how: of each field, and of each item, the first fault."""
    kinds = [bare for bare in map(_bare, _alternatives(kind)) if bare is not type(None)]
    model = _model(kinds, data)
    found: list[_Fault] = []
    if isinstance(data, Mapping) and model is not None:
        found = list(_of_fields(model, data, place))
    elif isinstance(data, (list, tuple)) and len(kinds) == 1 and get_args(kinds[0])[1:] == (...,):
        found = [fault for i, item in enumerate(data) for fault in _faults(get_args(kinds[0])[0], item, (*place, i))]
    yield from found
    if not found:
        try:
            _made(kind, data)
        except msgspec.ValidationError as error:
            yield _said(str(error), kind, place)


def _of_fields(model: type[Frozen], data: Mapping[Any, Any], place: _Place) -> Iterator[_Fault]:
    fields = {field.name: field for field in structs.fields(model)}
    tag = model.__struct_config__.tag_field
    for key in data:
        if key not in fields and key != tag:
            yield _Fault((*place, str(key)), unknown=model)
    for name, field in fields.items():
        if name in data:
            yield from _faults(field.type, data[name], (*place, name))
        elif field.required:
            yield _Fault((*place, name), "it is required, and missing")


def _said(message: str, kind: Any, place: _Place) -> _Fault:
    """msgspec's words without the place at their end, which goes to the others; and what is allowed, where it is a
    choice."""
    found = _PLACE.search(message)
    if found is not None:
        place = (*place, *re.findall(r"[^.\[\]]+", found[1]))
        message = message[: found.start()]
    choices = [choice for bare in map(_bare, _alternatives(kind)) for choice in _choices(bare)]
    message = message.replace(repr(END)[1:-1], "$")
    wrong = _WRONG.match(message)
    if wrong is not None and choices:
        closest = suggest(wrong[1].strip("'"), [choice for choice in choices if isinstance(choice, str)])
        message = f"unknown value {wrong[1]}.{closest} Allowed: {', '.join(map(repr, choices))}"
    return _Fault(place, message)


def _model(kinds: list[Any], data: Any) -> type[Frozen] | None:
    """Which of the kinds a mapping is meant as: the only one, or that of its tag."""
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Frozen)]
    if len(models) < 2 or not isinstance(data, Mapping):
        return models[0] if len(models) == 1 else None
    tags = {kind.__struct_config__.tag: kind for kind in models}
    return next((kind for tag, kind in tags.items() if data.get("kind") == tag), None)


def _choices(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [kind.__struct_config__.tag] if isinstance(kind, type) and issubclass(kind, Frozen) else []


def _alternatives(kind: Any) -> list[Any]:
    bare = _bare(kind)
    return list(get_args(bare)) if get_origin(bare) in (Union, types.UnionType) else [kind]


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _keys(model: type[Frozen]) -> list[str]:
    """The keys of a model, and of those within it: one may have been put at the wrong depth."""
    found = [field.name for field in structs.fields(model)]
    for field in structs.fields(model):
        for kind in map(_bare, _alternatives(field.type)):
            inner = get_args(kind)[0] if get_args(kind)[1:] == (...,) else kind
            found += _keys(inner) if isinstance(inner, type) and issubclass(inner, Frozen) else []
    return found
