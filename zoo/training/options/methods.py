"""Options of what is trained: everything, the head, or small parts put into the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from zoo.options import Options
from zoo.training.options.kinds import Positive, Rate, Share

Method = Literal["full", "head", "lora", "adalora", "ia3", "adapter", "prefix", "prompt"]


class MethodFields(Options):
    """Abstract: the method."""

    method: Method | dict[str, Any] = Field(
        default="full",
        description="'full' trains everything; 'head' the task's head alone, the body frozen. The others freeze the "
        "body, put small parts into it and train these and the head: 'lora', 'adalora', 'ia3' (any linear layers and "
        "convolutions), 'adapter' (bottlenecks), 'prefix' and 'prompt' (text). Or a config object of peft, or the "
        "same as a mapping with its peft_type.",
    )
    lora_rank: Positive = Field(
        default=8, description="Of lora; of adalora the average over all layers that is left in the end."
    )
    lora_alpha: Rate = Field(default=16.0, description="What lora adds is multiplied by lora_alpha / lora_rank.")
    lora_dropout: Share = Field(default=0.0, description="Of what goes into lora's and adalora's own parts.")
    lora_targets: tuple[str, ...] | None = Field(
        default=None,
        description="Ends of the names of the layers that lora, adalora and ia3 change, such as query and value. "
        "None: every linear layer and ungrouped convolution of the body.",
    )
    adapter_size: Positive = Field(default=64, description="Width of the bottlenecks of method='adapter'.")
    prompt_length: Positive = Field(
        default=16, description="Learned positions that method='prefix' and 'prompt' put before each text."
    )

    gradual_unfreezing: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Of method='full': train the head alone at first, then thaw the body's layers one after another "
        "from the top down, until after this share of all steps everything is trained (ULMFiT). True is 0.5.",
    )

    @field_validator("gradual_unfreezing", mode="before")
    @classmethod
    def _usual_share(cls, value: Any) -> Any:
        return {True: 0.5, False: None}[value] if isinstance(value, bool) else value

    @field_validator("method", mode="before")
    @classmethod
    def _config_of_peft(cls, value: Any) -> Any:
        if isinstance(value, (str, Mapping)) or not hasattr(value, "peft_type"):
            return value
        from zoo.training.methods.peft import to_options

        return to_options(value)

    @field_validator("lora_targets", mode="before")
    @classmethod
    def _one_target(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _only_what_is_trained_thaws(self) -> MethodFields:
        if self.gradual_unfreezing is not None and self.method != "full":
            raise ValueError("gradual_unfreezing goes with method='full': the other methods keep the body frozen")
        return self

    @model_validator(mode="after")
    def _peft_names_its_type(self) -> MethodFields:
        if not isinstance(self.method, str) and "peft_type" not in self.method:
            raise ValueError(f"method={self.method!r} is a mapping without a peft_type, such as 'LORA' or 'LOHA'")
        return self
