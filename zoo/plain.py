"""YAML and JSON as plain data, whatever text comes: read within bounds, or refused with one readable error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from zoo.errors import SpecError

# Far beyond what any file of ours has; a few hundred bytes of aliases can stand for billions of values.
_DEEPEST = 64
_MOST_VALUES = 2_000_000


class _Bounded(Composer, SafeConstructor):
    """A safe loader that refuses a key given twice (YAML would silently keep the last), and what grows without end."""

    # Of the parser that comes with it.
    check_event: Any
    peek_event: Any

    def __init__(self) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        self._depth = 0
        # By node: the values in it with its aliases written out, and how deep they go.
        self._sizes: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.ScalarEvent) and event.anchor is None:
            # Nine of ten nodes, and none of them can grow.
            scalar = self.compose_scalar_node(None)  # type: ignore[arg-type]  # no anchor
            self._sizes[id(scalar)] = (1, 1)
            return scalar
        alias, mark = isinstance(event, yaml.AliasEvent), event.start_mark
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {_DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias stands within what it names", mark)
        if not alias:
            inner = [self._sizes[id(child)] for child in _children(node)]
            self._sizes[id(node)] = (
                1 + sum(size for size, _ in inner),
                1 + max((depth for _, depth in inner), default=0),
            )
        size, depth = self._sizes[id(node)]
        if size > _MOST_VALUES or depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "its aliases stand for too many values", mark)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _PythonLoader(_Bounded, Reader, Scanner, Parser, Resolver):
    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)
        Resolver.__init__(self)
        _Bounded.__init__(self)


try:
    from yaml._yaml import CParser
# PyYAML was built without libyaml.
except ImportError:
    _Loader: Any = _PythonLoader
else:

    class _Loader(_Bounded, CParser, Resolver):  # type: ignore[no-redef]
        """Reads the text by libyaml, several times as quickly: what becomes of it is composed in Python."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Resolver.__init__(self)
            _Bounded.__init__(self)


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def load_yaml(text: str, *, where: str) -> Any:
    """YAML as plain data. Raises SpecError with the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    # The constructors of dates, numbers and binary let through what Python raises on a damaged one.
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise SpecError(f"{where} is not readable YAML: {error}") from error


def dump_yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))


def load_json(text: str | bytes) -> Any:
    """JSON as plain data. Raises ValueError, for what is nested too deeply too."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
