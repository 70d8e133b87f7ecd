"""Options that people give by name, to Python or on a command line: checked when they are made, by pydantic.

What is read from a file that the zoo or its hub wrote is of `zoo.strict`, which is imported sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from zoo.errors import SpecError, suggest


class Options(BaseModel):
    """Strict and immutable: an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


T = TypeVar("T", bound=Options)


def parse_options(model: type[T], given: Mapping[str, Any], *, where: str) -> T:
    """The options of these names. A SpecError lists every fault, the closest name beside an unknown one."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(model, item)}" for item in error.errors(include_url=False, include_input=False))
        raise SpecError(f"{where} is not valid:\n{faults}") from error


def _fault(model: type[Options], item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"]) or "(whole)"
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key.{suggest(str(item['loc'][-1]), model.model_fields)}"
    return f"{path}: {item['msg']}"
