"""An encoder and a decoder with a cache: what the decoder sees of the input is made once, its tokens are read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from zoo import bundle
from zoo.errors import BundleError
from zoo.modalities.base import Array
from zoo.runtime.caching import check_select, nothing, past_of, select_rows
from zoo.runtime.session import Device, Session
from zoo.tasks import caching


@final
class CachedSequenceSession:
    """Three sessions as one: the halves of a model, and what takes rows out of the decoder's cache."""

    def __init__(
        self, encoder: Session, decoder: Session, select: Session, inputs: tuple[bundle.TensorSpec, ...]
    ) -> None:
        self.past = past_of(decoder, inputs, {caching.TOKENS})
        if caching.HIDDEN not in encoder.outputs:
            raise BundleError(f"{encoder.graph} gives no {caching.HIDDEN}.")
        self.encoder = encoder
        self.decoder = decoder
        self.select = check_select(select)
        self.device: Device = encoder.device
        self.inputs = {**encoder.inputs, caching.TOKENS: decoder.inputs[caching.TOKENS]}
        self.outputs = ["logits", caching.HIDDEN]
        self.crossing = [name for name in encoder.outputs if name != caching.HIDDEN]
        self.memory = [name for name in decoder.inputs if name in encoder.inputs]
        self._held = {name: caching.past_of(name) for name in decoder.outputs if name != "logits"}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays `[B, ...]` in, `logits` and `encoder_hidden` out."""
        hidden, crossing = self.encoder.run_held(inputs, {name: name for name in self.crossing})
        memory = {name: inputs[name] for name in self.memory}
        tokens = inputs[caching.TOKENS]
        return {**self.decode(tokens, {**memory, **crossing, **nothing(self.past, len(tokens))})[0], **hidden}

    def decode(self, tokens: Array, arrays: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
        """int64 tokens `[B, L]` and all that the decoder takes beside them; `logits [B, L, V]`, and the cache."""
        return self.decoder.run_held({caching.TOKENS: tokens, **arrays}, self._held)


@final
class CachedSequences:
    """`zoo.tasks.sequences.SequenceStepper` over graphs with a cache, which stays on its device."""

    def __init__(self, session: CachedSequenceSession) -> None:
        self._session = session
        self._memory: dict[str, Array] = {}
        self._crossing: dict[str, Any] = {}
        self._cache: dict[str, Any] = {}
        # Of each row, which input it writes about: beams of one input change places and see the same.
        self._input: Array = np.zeros(0, dtype=np.int64)

    def start(self, inputs: Mapping[str, Array], prompts: Array) -> Array:
        session = self._session
        held = {name: name for name in (*session.crossing, caching.HIDDEN)}
        kept = session.encoder.run_held(inputs, held)[1]
        self._crossing = {name: kept[name] for name in session.crossing}
        self._memory = {name: inputs[name] for name in session.memory}
        self._cache = dict(nothing(session.past, len(prompts)))
        self._input = np.arange(len(prompts))
        return self._run(np.asarray(prompts, dtype=np.int64))

    def advance(self, tokens: Array) -> Array:
        return self._run(np.asarray(tokens, dtype=np.int64)[:, None])

    def select(self, rows: Array) -> None:
        if len(rows) == len(self._input) and np.array_equal(rows, np.arange(len(rows))):
            return
        select = self._session.select
        self._cache = select_rows(select, self._cache, rows)
        chosen = self._input[rows]
        if not np.array_equal(chosen, self._input):
            self._crossing = select_rows(select, self._crossing, rows)
            self._memory = {name: array[rows] for name, array in self._memory.items()}
            self._input = chosen

    def _run(self, tokens: Array) -> Array:
        arrays = {**self._memory, **self._crossing, **self._cache}
        found, self._cache = self._session.decode(tokens, arrays)
        return np.asarray(found["logits"][:, -1], dtype=np.float32)
