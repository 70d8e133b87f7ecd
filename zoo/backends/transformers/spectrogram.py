"""Models over a log-mel spectrogram of fixed length."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zoo.backends.module import ZooModule, pool
from zoo.backends.transformers.config import AST
from zoo.backends.transformers.parts import base_of, head_of
from zoo.errors import SpecError
from zoo.spec import ModelSpec

# The class and the distillation token, in front of the patches.
_SPECIAL = 2


@final
class SpectrogramModule(ZooModule):
    """The Audio Spectrogram Transformer (arXiv:2104.01778). Input: float32 `input_features [B, frames, bins]`.

    "cls" pools as upstream does: the mean of the class and the distillation token.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        if spec.architecture != AST:
            raise SpecError(f"{spec.architecture!r} can't do {task} from a spectrogram.")

    def forward(self, input_features: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(input_features=input_features)}
        return {"logits": self.net(input_values=input_features).logits}

    def pooled(self, pooling: str, input_features: Tensor) -> Tensor:
        found = base_of(self.net)(input_values=input_features)
        if pooling == "cls":
            pooled: Tensor = found.pooler_output
            return pooled
        hidden = found.last_hidden_state[:, _SPECIAL:]
        return pool(hidden, torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device), pooling)
