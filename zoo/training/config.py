"""The options of fine-tuning: one frozen, documented dataclass of fields, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from zoo.errors import ConfigError, suggest
from zoo.options import Options
from zoo.training.options.inputs import InputFields
from zoo.training.options.kinds import Count, Positive
from zoo.training.options.losses import LossFields
from zoo.training.options.methods import MethodFields
from zoo.training.options.optimizing import OptimizerFields


class PassFields(Options):
    """Abstract: how long, and in what batches."""

    epochs: Positive = Field(default=3, description="Passes over the training data.")
    max_steps: Positive | None = Field(
        default=None, description="Stop after this many optimiser steps even if epochs remain; None is no limit."
    )
    batch_size: Positive | Literal["auto"] = Field(
        default="auto",
        description="Inputs in one forward pass of one process. 'auto' starts from a size for the device and the data, "
        "and halves it when memory runs out, accumulating twice as often, so that the effective batch stays.",
    )
    gradient_accumulation: Positive = Field(
        default=1,
        description="Forward passes in one optimiser step. The effective batch is batch_size x gradient_accumulation x "
        "processes, and its loss is exactly that of one large batch.",
    )


# Pydantic lists the fields of the last base first: read from right to left.
@final
class TrainConfig(InputFields, LossFields, MethodFields, OptimizerFields, PassFields):
    """How to fine-tune. An unknown name or a value out of range is a ConfigError that says what is allowed."""

    early_stop: Positive | None = Field(
        default=None, description="Stop after so many epochs without a better metric on the validation data."
    )
    on_error: Literal["raise", "skip"] = Field(
        default="raise", description="What to do with a row that can't be read: refuse it by name, or leave it out."
    )
    num_workers: Count | Literal["auto"] = Field(
        default="auto",
        description="Processes that decode images and sound; 0 decodes in this one. 'auto': 0 on the CPU, up to 8 for "
        "a GPU.",
    )
    lint: bool = Field(
        default=True,
        description="Look for the known faults of data first (`zoo.lint`), and show what is found on standard error.",
    )
    output_dir: Path | None = Field(
        default=None, description="Where checkpoints and logs go; None writes none, and an interrupted run is lost."
    )
    checkpoint_steps: Positive | None = Field(
        default=None, description="Write a checkpoint every so many steps too, not only after each epoch."
    )
    resume: bool = Field(
        default=False,
        description="Go on from the newest intact checkpoint in output_dir; start afresh when there is none.",
    )
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        default=(),
        description="Trackers to log to: 'tensorboard', 'wandb', 'mlflow'. What they keep on this machine is in "
        "output_dir.",
    )
    progress: bool = Field(
        default=True, description="Show a live bar on a terminal, and plain lines elsewhere, on standard error."
    )
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)] = Field(
        default=0, description="Of the order of rows, dropout, augmentation and new weights."
    )
    experiment: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] = Field(
        default="zoo", description="Name of the run in the trackers."
    )

    @field_validator("log", mode="before")
    @classmethod
    def _one_tracker(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_agree(self) -> TrainConfig:
        for name in ("resume", "checkpoint_steps", "log"):
            if getattr(self, name) and self.output_dir is None:
                raise ValueError(f"{name} needs output_dir=, the folder where checkpoints and logs are kept")
        if self.layer_decay is not None and self.method in ("head", "prefix", "prompt"):
            raise ValueError(
                f"layer_decay is for the body's layers, and method={self.method!r} trains none; leave it out"
            )
        return self

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            faults = "\n".join(f"  {_fault(item)}" for item in error.errors())
            raise ConfigError(f"These options of finetune() can't be used:\n{faults}") from error

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> TrainConfig:
        """The same from a mapping of names."""
        return cls(**options)


def _fault(item: Any) -> str:
    # Pydantic adds the name of the alternative that it tried: "batch_size.constrained-int".
    name = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        return f"{name}: there is no such option.{suggest(name, TrainConfig.model_fields)}"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{name}={item['input']!r}: {message}" if name else message
