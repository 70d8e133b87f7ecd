"""Options of the loss, and of how it is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from zoo.options import Options
from zoo.training.options.kinds import Share, Weight


class LossFields(Options):
    """Abstract: the loss and how it is computed."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="'auto': bf16 on a GPU that has it, else fp16; fp32 on the CPU, where bf16 is quicker on those "
        "that multiply in it (`zoo doctor` tells).",
    )
    tf32: bool = Field(default=True, description="Let a GPU multiply float32 matrices in TF32.")
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, about a third slower."
    )
    compile: bool = Field(
        default=False,
        description="Train with torch.compile: quicker steps after a slow first one, the loss equal to rounding. "
        "Lengths are dynamic; what torch can't compile runs as it is, between compiled pieces. On the CPU it needs a "
        "C++ compiler.",
    )
    loss: Literal["focal"] | None = Field(
        default=None,
        description="Of classification by labels: 'focal' counts what is answered well already for less "
        "(arXiv:1708.02002). None: the task's own.",
    )
    focal_gamma: Weight | None = Field(
        default=None, description="Of the focal loss: how much less; 0 is cross-entropy. None: 2."
    )
    label_smoothing: Share = Field(default=0.0, description="Share of the target spread evenly over all classes.")
    class_weights: Literal["balanced"] | dict[str, Weight] | None = Field(
        default=None,
        description="Weight of each label in the loss, 1 for those not named; 'balanced' is inverse to its frequency.",
    )

    @field_validator("class_weights", mode="before")
    @classmethod
    def _labels_are_texts(cls, value: Any) -> Any:
        return {str(key): weight for key, weight in value.items()} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _gamma_is_focals(self) -> LossFields:
        if self.focal_gamma is not None and self.loss != "focal":
            raise ValueError(f"focal_gamma={self.focal_gamma} goes with loss='focal'; give both, or neither")
        return self
