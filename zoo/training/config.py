"""The options of fine-tuning: one frozen, documented dataclass of fields, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from zoo.errors import ConfigError, suggest
from zoo.spec import Frozen

Method = Literal["full", "head", "lora", "adalora", "ia3", "adapter", "prefix", "prompt"]
Positive = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Frozen):
    """How to fine-tune. An unknown name or a value out of range is a ConfigError that says what is allowed."""

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
    learning_rate: Rate | None = Field(
        default=None,
        description="The peak. None: 5e-5 for text and sound, 1e-4 for images; 1e-3 for a head alone and adalora, "
        "5e-4 for lora and adapters, 5e-3 for ia3 and prefixes, 3e-2 for prompts; with sgd 1e-3 (images 1e-2), and ten "
        "times the method's.",
    )
    head_learning_rate: Rate | None = Field(
        default=None,
        description="Of the task's head alone. None: learning_rate x head_lr_scale; at most 1e-3 beside ia3, prefix "
        "and prompt when both are left out.",
    )
    head_lr_scale: Rate = Field(default=1.0, description="The head's learning rate as a multiple of the body's.")
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="adamw (fused where the device has it) or sgd with Nesterov momentum."
    )
    momentum: Share = Field(default=0.9, description="Of sgd.")
    weight_decay: Weight = Field(default=0.01, description="Never applied to biases and normalisation layers.")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate goes on after the warm-up: to zero, or level."
    )
    warmup_ratio: Share = Field(
        default=0.1, description="Share of all steps in which the learning rate rises from zero."
    )
    max_grad_norm: Rate | None = Field(default=1.0, description="Gradients are clipped to this norm; None: not.")
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
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="'auto': bf16 on a GPU that has it, else fp16; fp32 on the CPU."
    )
    tf32: bool = Field(default=True, description="Let a GPU multiply float32 matrices in TF32.")
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, about a third slower."
    )
    label_smoothing: Share = Field(default=0.0, description="Share of the target spread evenly over all classes.")
    class_weights: Literal["balanced"] | dict[str, Weight] | None = Field(
        default=None,
        description="Weight of each label in the loss, 1 for those not named; 'balanced' is inverse to its frequency.",
    )
    sampler: Literal["uniform", "balanced"] = Field(
        default="uniform",
        description="Which rows an epoch takes: 'uniform' each one once; 'balanced' as many rows in all, equally many "
        "of each label: rare ones come again and again, of frequent ones another part each time.",
    )
    column_kinds: dict[str, Literal["categorical", "hashed", "set", "numeric", "ignored"]] | None = Field(
        default=None,
        description="Of a table: what columns are, by name, where the inferred kind is not meant. 'hashed' is for "
        "categories that are too many or change; a 'set' holds several.",
    )
    crosses: tuple[tuple[str, ...], ...] = Field(
        default=(), description="Of a table: categorical columns whose combinations count, as in [('user', 'genre')]."
    )
    predict_with_generate: bool = Field(
        default=True,
        description="Validate summaries and translations by generated texts (ROUGE, BLEU), greedily; False validates "
        "by the loss and perplexity alone, which is quicker.",
    )
    augment: Literal["none", "light", "strong"] = Field(
        default="light",
        description="Vary images and sound in training, never in evaluation. 'light' keeps what a label may depend on "
        "(small crops, brightness; gain, a little noise and shift); 'strong' also mirrors images, changes colours, "
        "crops widely and erases parts, and adds more noise. True is 'light', False 'none'.",
    )
    packing: bool = Field(
        default=False,
        description="Of language modelling: train on texts one after another in full windows, an end-of-text token "
        "between them, instead of each text padded. Texts in one window see each other.",
    )
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15,
        description="Of masked language modelling: the share of tokens that are hidden, others in each epoch.",
    )
    whole_word_masking: bool = Field(
        default=False, description="Of masked language modelling: hide all tokens of a word, or none."
    )
    early_stop: Positive | None = Field(
        default=None, description="Stop after so many epochs without a better metric on the validation data."
    )
    on_error: Literal["raise", "skip"] = Field(
        default="raise", description="What to do with a row that can't be read: refuse it by name, or leave it out."
    )
    num_workers: Annotated[int, Field(ge=0, strict=True)] | Literal["auto"] = Field(
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

    @field_validator("log", mode="before")
    @classmethod
    def _one_tracker(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("crosses", mode="before")
    @classmethod
    def _written_crosses(cls, value: Any) -> Any:
        # As the command line gives it: "user x genre, item x age".
        if not isinstance(value, str):
            return value
        return tuple(tuple(name.strip() for name in cross.split(" x ")) for cross in value.split(","))

    @field_validator("augment", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        return {True: "light", False: "none"}[value] if isinstance(value, bool) else value

    @field_validator("class_weights", mode="before")
    @classmethod
    def _labels_are_texts(cls, value: Any) -> Any:
        return {str(key): weight for key, weight in value.items()} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _options_agree(self) -> TrainConfig:
        for name in ("resume", "checkpoint_steps", "log"):
            if getattr(self, name) and self.output_dir is None:
                raise ValueError(f"{name} needs output_dir=, the folder where checkpoints and logs are kept")
        if not isinstance(self.method, str) and "peft_type" not in self.method:
            raise ValueError(f"method={self.method!r} is a mapping without a peft_type, such as 'LORA' or 'LOHA'")
        if self.head_learning_rate is not None and self.head_lr_scale != 1.0:
            raise ValueError("give head_learning_rate or head_lr_scale, not both")
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
