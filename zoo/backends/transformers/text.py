"""Text models that see a whole text at once, or every token those before it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zoo.backends.fixed import Kept
from zoo.backends.module import ZooModule, last_position, pool, position_ids, rows_at
from zoo.backends.transformers import packing
from zoo.backends.transformers.caching import can_cache, can_fix, filled, fixed, flat, growing
from zoo.backends.transformers.config import first_position, is_causal
from zoo.backends.transformers.parts import base_of, head_of, hearing, linear_head
from zoo.spec import ModelSpec, TextInput


@final
class TextModule(ZooModule):
    """Inputs: int64 `input_ids [B, T]` and `attention_mask [B, T]`, padded on either side.

    And `token_type_ids [B, T]` where the spec's input has them; all zero when left out, as upstream has it.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        self.causal = is_causal(net.config)
        left = isinstance(spec.input, TextInput) and spec.input.padding_side == "left"
        # Padding on the right moves no position, so that other models count for themselves there.
        counted = self.causal or left
        self.positions = counted and "position_ids" in inspect.signature(base_of(net).forward).parameters
        self.first_position = first_position(net.config)
        self.packs = packing.prepare(net)
        self.kept = Kept()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        with packing.packed(attention_mask, unless=not self.packs):
            return self._forward(self._inputs(input_ids, attention_mask, token_type_ids), attention_mask)

    def _forward(self, inputs: dict[str, Any], attention_mask: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": pool(self._hidden(inputs), attention_mask, self.pooling).float()}
        if self.task == "question-answering":
            output = self.net(**inputs)
            return {"start_logits": output.start_logits, "end_logits": output.end_logits}
        if self.task == "text-classification" and self.causal:
            # Upstream looks for the last token by the padding's id, and refuses batches when there is none.
            hidden = self._hidden(inputs)
            return {"logits": self.net.score(rows_at(hidden, last_position(attention_mask)))}  # type: ignore[operator]
        return {"logits": self.net(**inputs).logits}

    @property
    def caches(self) -> bool:
        """Whether `cached` can be asked: whether the graph of this module is one with a cache."""
        return self.task == "text-generation" and can_cache(self.net)

    def fresh_cache(self) -> Any:
        """What a generation begins with: an empty cache; None where upstream has to make its own."""
        return growing(self.net) if self.caches else None

    @property
    def fixes(self) -> bool:
        """Whether generation may go on over a cache of one size."""
        return self.caches and self.positions and self.adapted is None and can_fix(self.net)

    def fixed_cache(self, layers: Sequence[Sequence[Tensor]], place: Tensor) -> Any:
        """A cache of one size. layers: keys and values `[B, heads, C, width]`. place: the next token's, int64 `[1]`."""
        return fixed(self.net, layers, place)

    def train(self, mode: bool = True) -> TextModule:
        if mode:
            self.kept.clear()
        super().train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # Moved to another device, or dropped from this one.
        self.kept.clear()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def cached(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: Tensor,
        position_ids: Tensor | None = None,
        **past: Tensor,
    ) -> dict[str, Tensor]:
        """Further tokens of a text whose earlier ones are in the cache. See `zoo.tasks.caching` for names and shapes.

        `logits [B, K, V]` at the places `logits_to_keep [K]`, and the cache with the new tokens in it.
        """
        options = {"position_ids": position_ids} if self.positions else {}
        cache = filled(self.net, past)
        output = self.net(
            input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True,
            logits_to_keep=logits_to_keep, **options,
        )  # fmt: skip
        return {"logits": output.logits, **flat(output.past_key_values)}

    def head_weights(self) -> int | None:
        """How many weights the output layer has; None where logits are more than hidden states times a matrix."""
        head = linear_head(self.net)
        if head is None:
            return None
        ids = torch.arange(2)[None]
        with torch.no_grad(), hearing(head) as heard:
            logits = self.net(input_ids=ids.to(head.weight.device)).logits
            # Some are scaled, or held below a limit.
            plain = len(heard) == 1 and torch.equal(head(heard[0]), logits)
        return head.weight.numel() if plain else None

    def cached_hidden(self, logits_to_keep: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """As `cached`, with `hidden [B, T, H]`, what the output layer is given at all places."""
        head = linear_head(self.net)
        assert head is not None
        with hearing(head) as heard:
            # Those logits are asked for by nobody, and are in no graph.
            outputs = self.cached(logits_to_keep=0, **inputs)  # type: ignore[arg-type]
        return {**outputs, "logits": head(heard[0][:, logits_to_keep]), "hidden": heard[0]}

    def pooled(
        self, pooling: str, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        with packing.packed(attention_mask, unless=not self.packs):
            hidden = self._hidden(self._inputs(input_ids, attention_mask, token_type_ids))
        return pool(hidden, attention_mask, pooling)

    def _hidden(self, inputs: dict[str, Any]) -> Tensor:
        hidden: Tensor = base_of(self.net)(**inputs).last_hidden_state
        return hidden

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if self.causal:
            inputs["use_cache"] = False
        if self.positions:
            inputs["position_ids"] = position_ids(attention_mask) + self.first_position
        return inputs
