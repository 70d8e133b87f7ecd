"""What a raw input is called where a server takes it as bytes: by `zoo serve`, and in a repository of Triton."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zoo.spec import ModelSpec

Kind = Literal["text", "image", "audio", "row"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a model: what fits a route, and a folder
RESULT = "result"  # the output, each element a typed result as JSON

# Parameters of a request that are the protocol's own; all others are options of predict().
OWN_PARAMETERS = (
    "binary_data_output", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "classification",
    "triton_enable_empty_final_response", "headers",
)  # fmt: skip


def raw_kind(spec: ModelSpec) -> Kind:
    kind = spec.input.kind
    return "row" if kind == "tabular" else "audio" if kind == "mel" else kind
