"""Encoder-decoder models of text: T5, BART, Pegasus, Marian, mBART, M2M100 and their kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from zoo.backends.module import pool
from zoo.backends.sequences import EncoderDecoder
from zoo.backends.transformers.caching import begin, can_cache, go_on
from zoo.spec import ModelSpec


@final
class Seq2SeqModule(EncoderDecoder):
    """Inputs: int64 `input_ids [B, T]`, `attention_mask [B, T]` and `decoder_input_ids [B, L]`, padded on the right.

    Upstream's own forward is run in two halves. What stands after a row's last decoder token is seen by nothing.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        # The head is the embedding again, or as large: there is none to be trained alone.
        super().__init__(net, spec=spec, task=task, head=())

    def encode(self, **inputs: Tensor) -> dict[str, Tensor]:
        encoder: Any = self.net.get_encoder()  # type: ignore[operator]
        return {"encoder_hidden": encoder(**inputs).last_hidden_state}

    def decode(self, decoder_input_ids: Tensor, encoder_hidden: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        return {"logits": self._run(decoder_input_ids, encoder_hidden, memory, use_cache=False).logits}

    def cached(self, tokens: Tensor, encoder_hidden: Tensor, memory: Mapping[str, Tensor], cache: Any) -> Any:
        output = self._run(tokens, encoder_hidden, memory, use_cache=True, past_key_values=cache)
        return output.logits, output.past_key_values

    @property
    def caches(self) -> bool:
        return can_cache(self.net)

    def begin(self, **inputs: Tensor) -> dict[str, Tensor]:
        return begin(self, inputs)

    def go_on(self, decoder_input_ids: Tensor, **arrays: Tensor) -> dict[str, Tensor]:
        return go_on(self, decoder_input_ids, arrays)

    def pooled(self, pooling: str, input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> Tensor:
        hidden = self.encode(input_ids=input_ids, attention_mask=attention_mask)["encoder_hidden"]
        return pool(hidden, attention_mask, pooling)

    def _run(self, tokens: Tensor, hidden: Tensor, memory: Mapping[str, Tensor], **options: Any) -> Any:
        encoded = BaseModelOutput(last_hidden_state=hidden)
        return self.net(encoder_outputs=encoded, decoder_input_ids=tokens, **memory, **options)
