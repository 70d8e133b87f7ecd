"""Encoder-decoder models of speech: Whisper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from zoo.backends.module import pool
from zoo.backends.sequences import EncoderDecoder
from zoo.backends.transformers.caching import begin, can_cache, go_on
from zoo.spec import ModelSpec


@final
class SpeechSeq2SeqModule(EncoderDecoder):
    """Inputs: float32 `input_features [B, bins, frames]` of one length, int64 `decoder_input_ids [B, L]`, padded on the
    right. What stands after a row's last decoder token is seen by nothing.
    """

    memory: ClassVar[tuple[str, ...]] = ()

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        # The head is the embedding again: there is none to be trained alone.
        super().__init__(net, spec=spec, task=task, head=())

    def encode(self, **inputs: Tensor) -> dict[str, Tensor]:
        encoder: Any = self.net.get_encoder()  # type: ignore[operator]
        return {"encoder_hidden": encoder(inputs["input_features"]).last_hidden_state}

    def decode(self, decoder_input_ids: Tensor, encoder_hidden: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        return {"logits": self._run(decoder_input_ids, encoder_hidden, use_cache=False).logits}

    def cached(self, tokens: Tensor, encoder_hidden: Tensor, memory: Mapping[str, Tensor], cache: Any) -> Any:
        output = self._run(tokens, encoder_hidden, use_cache=True, past_key_values=cache)
        return output.logits, output.past_key_values

    @property
    def caches(self) -> bool:
        return can_cache(self.net)

    def begin(self, **inputs: Tensor) -> dict[str, Tensor]:
        return begin(self, inputs)

    def go_on(self, decoder_input_ids: Tensor, **arrays: Tensor) -> dict[str, Tensor]:
        return go_on(self, decoder_input_ids, arrays)

    def pooled(self, pooling: str, input_features: Tensor, **_: Tensor) -> Tensor:
        hidden = self.encode(input_features=input_features)["encoder_hidden"]
        return pool(hidden, torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device), pooling)

    def _run(self, tokens: Tensor, hidden: Tensor, **options: Any) -> Any:
        encoded = BaseModelOutput(last_hidden_state=hidden)
        return self.net(encoder_outputs=encoded, decoder_input_ids=tokens, **options)
