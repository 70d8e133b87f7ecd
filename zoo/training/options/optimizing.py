"""Options of the optimiser, its rates, and their schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from zoo.options import Options
from zoo.training.options.kinds import Count, Rate, Share, Weight


class OptimizerFields(Options):
    """Abstract: the optimiser and its schedule."""

    learning_rate: Rate | None = Field(
        default=None,
        description="The peak. None: the model's own where AdamW or its like trains all of it, or 5e-5 for text and "
        "sound, 1e-4 for images; 1e-3 for a head alone and adalora, 5e-4 for lora and adapters, 5e-3 for ia3 "
        "and prefixes, 3e-2 for prompts; with sgd 1e-3 (images 1e-2), and ten times the method's; with adagrad ten "
        "times these, with lion 0.3 times.",
    )
    head_learning_rate: Rate | None = Field(
        default=None,
        description="Of the task's head alone. None: learning_rate x head_lr_scale; at most 1e-3 beside ia3, prefix "
        "and prompt when both are left out.",
    )
    head_lr_scale: Rate = Field(default=1.0, description="The head's learning rate as a multiple of the body's.")
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Each layer of the body learns at this multiple of the rate of the one above it, the embeddings "
        "slowest; 0.65 to 0.95 is usual. None: all at the same.",
    )
    optimizer: Literal["adamw", "adam", "adamw_8bit", "sgd", "adagrad", "lion", "muon"] = Field(
        default="adamw",
        description="adamw and adam (fused where the device has it; adam adds weight decay to the gradient); "
        "adamw_8bit (bitsandbytes: a quarter of the state's memory); sgd with Nesterov momentum; adagrad; lion; muon "
        "for the body's matrices and convolutions, with adamw for embeddings, the head and all vectors.",
    )
    momentum: Share | None = Field(default=None, description="Of sgd and muon. None: 0.9 of sgd, 0.95 of muon.")
    weight_decay: Weight = Field(default=0.01, description="Never applied to biases and normalisation layers.")
    scheduler: Literal["cosine", "linear", "constant", "one_cycle", "plateau"] = Field(
        default="cosine",
        description="How the learning rate goes on after the warm-up: to zero by a cosine or a line; level; one_cycle: "
        "from a 25th up by a cosine and down to nothing, momentum the other way; plateau: level, and lower after "
        "epochs without a better metric on the validation data.",
    )
    warmup_ratio: Share = Field(
        default=0.1, description="Share of all steps in which the learning rate rises from zero."
    )
    warmup_steps: Count | None = Field(default=None, description="So many steps of warm-up, in place of warmup_ratio.")
    plateau_patience: Count = Field(
        default=1, description="Of plateau: epochs without a better metric that are waited for, before a lower rate."
    )
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3, description="Of plateau: what the learning rate is then multiplied by."
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Keep a moving average of the weights: each step leaves this share of it, at most (1 + steps) / "
        "(10 + steps). It is what is validated and kept. None: no average.",
    )
    max_grad_norm: Rate | None = Field(default=1.0, description="Gradients are clipped to this norm; None: not.")

    @model_validator(mode="after")
    def _one_rate_of_the_head(self) -> OptimizerFields:
        if self.head_learning_rate is not None and self.head_lr_scale != 1.0:
            raise ValueError("give head_learning_rate or head_lr_scale, not both")
        return self
