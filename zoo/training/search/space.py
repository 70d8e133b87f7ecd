"""What a search may choose from: options of finetune() by name, each a list of choices or a range."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from zoo.errors import ConfigError, suggest
from zoo.training.config import TrainConfig

# They say where a run is written or shown, which is not a matter of better or worse.
_NOT_SEARCHED = ("output_dir", "resume", "log", "progress", "lint", "experiment", "on_error", "checkpoint_steps")
_FORMS = (
    "a list of choices: [8, 16, 32]; a range (low, high): (1e-5, 1e-3), on a logarithmic scale where high is ten times "
    'low or more; or {"low": 0.0, "high": 0.3, "log": False, "step": 0.1}'
)


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values, of any kind that the option takes."""

    values: tuple[Any, ...]

    @property
    def names(self) -> tuple[Any, ...]:
        """The values as a study file can hold them: what is no plain value by its JSON."""
        return tuple(v if isinstance(v, (str, int, float, bool, type(None))) else json.dumps(v) for v in self.values)

    def value(self, name: Any) -> Any:
        return next(value for value, own in zip(self.values, self.names, strict=True) if own == name)


@final
@dataclass(frozen=True, slots=True)
class Range:
    """From low to high, both included. log: each power of ten as likely as the next; step: multiples of it alone."""

    low: float
    high: float
    log: bool
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Dimension = Choice | Range
Space = dict[str, Dimension]


def parse_space(space: Mapping[str, Any], fixed: Mapping[str, Any]) -> Space:
    """Check and read `space`, whose every end and choice must be an option that finetune() takes.

    fixed: the other options, which stay as they are. Raises ConfigError.
    """
    if not isinstance(space, Mapping) or not space:
        raise ConfigError(f"space is {space!r}; give options by name, each with {_FORMS}.")
    allowed = [name for name in TrainConfig.model_fields if name not in _NOT_SEARCHED]
    for name in space:
        if name not in allowed:
            raise ConfigError(f"There is nothing to search in {name!r}.{suggest(str(name), allowed)}")
        if name in fixed:
            raise ConfigError(f"{name} is in space and given as {fixed[name]!r}; leave out one of the two.")
    found = {name: _dimension(name, given) for name, given in space.items()}
    for name, dimension in found.items():
        for value in dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high):
            TrainConfig.parse({**fixed, name: value})
    return found


def _dimension(name: str, given: Any) -> Dimension:
    if isinstance(given, Mapping):
        return _explicit(name, given)
    if isinstance(given, tuple) and len(given) == 2 and all(map(_number, given)):
        low, high = given
        return _range(name, low, high, log=low > 0 and high / low >= 10 and not _whole(given), step=None)
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes, tuple)) and given:
        return Choice(tuple(given))
    raise ConfigError(f"space[{name!r}] is {given!r}; give {_FORMS}.")


def _explicit(name: str, given: Mapping[str, Any]) -> Range:
    keys = ("low", "high", "log", "step")
    for key in given:
        if key not in keys:
            raise ConfigError(
                f"space[{name!r}] has no key {key!r}.{suggest(str(key), keys)} It has: {', '.join(keys)}."
            )
    if not (_number(given.get("low")) and _number(given.get("high"))):
        raise ConfigError(f"space[{name!r}] is {dict(given)!r}; low and high are numbers.")
    return _range(name, given["low"], given["high"], log=bool(given.get("log", False)), step=given.get("step"))


def _range(name: str, low: Any, high: Any, *, log: bool, step: Any) -> Range:
    if not low < high:
        raise ConfigError(f"space[{name!r}] goes from {low!r} to {high!r}; the first must be the smaller one.")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"space[{name!r}] is logarithmic: low must be above 0, and there is no step.")
    if not _whole((low, high)):
        low, high = float(low), float(high)
    return Range(low, high, log, step)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int) for value in values)
