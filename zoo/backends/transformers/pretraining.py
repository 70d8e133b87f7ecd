"""BERT with both heads of its pre-training: hidden words, and whether the second text follows the first."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor
from transformers import PreTrainedModel

from zoo.backends.module import ZooModule, pool, position_ids
from zoo.backends.transformers.parts import base_of, head_of
from zoo.spec import ModelSpec, TextInput


@final
class PretrainingModule(ZooModule):
    """Inputs: int64 `input_ids`, `attention_mask` and `token_type_ids`, all `[B, T]`.

    Outputs: `logits [B, T, V]` and `next_logits [B, 2]`: follows, does not follow.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        self.left = isinstance(spec.input, TextInput) and spec.input.padding_side == "left"

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        found = self.net(**self._inputs(input_ids, attention_mask, token_type_ids))
        return {"logits": found.prediction_logits, "next_logits": found.seq_relationship_logits}

    def pooled(
        self, pooling: str, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        body: Any = base_of(self.net)
        hidden = body(**self._inputs(input_ids, attention_mask, token_type_ids)).last_hidden_state
        return pool(hidden, attention_mask, pooling)

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> dict[str, Any]:
        positions = position_ids(attention_mask) if self.left else None
        return {
            "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
            "position_ids": positions,
        }  # fmt: skip
