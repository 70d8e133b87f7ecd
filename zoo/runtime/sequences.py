"""An encoder's and a decoder's graph together: the encoder runs once an input, the decoder once a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np

from zoo.modalities.base import Array
from zoo.runtime.session import Device, Session

_TOKENS, _HIDDEN = "decoder_input_ids", "encoder_hidden"


@final
class SequenceSession:
    """Two sessions as one: `run` as of a single graph, and the halves for generation."""

    def __init__(self, encoder: Session, decoder: Session) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.device: Device = encoder.device
        between = set(encoder.outputs)
        taken = {**encoder.inputs, **decoder.inputs}
        self.inputs = {name: dtype for name, dtype in taken.items() if name not in between}
        self.outputs = [*decoder.outputs, *encoder.outputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays `[B, ...]` in, `logits` and `encoder_hidden` out."""
        hidden = self.encoder.run(inputs)
        return {**self.decoder.run({**inputs, **hidden}), **hidden}


@final
class GraphSequences:
    """`zoo.tasks.sequences.SequenceStepper` over two graphs without a cache: the decoder reads its tokens again."""

    def __init__(self, session: SequenceSession) -> None:
        self._session = session
        self._memory: dict[str, Array] = {}
        self._tokens: Array = np.zeros((0, 0), dtype=np.int64)

    def start(self, inputs: Mapping[str, Array], prompts: Array) -> Array:
        encoded = {**inputs, **self._session.encoder.run(inputs)}
        self._memory = {name: encoded[name] for name in self._session.decoder.inputs if name != _TOKENS}
        self._tokens = np.asarray(prompts, dtype=np.int64)
        return self._run()

    def advance(self, tokens: Array) -> Array:
        self._tokens = np.concatenate([self._tokens, tokens[:, None]], axis=1)
        return self._run()

    def select(self, rows: Array) -> None:
        same = len(rows) == len(self._tokens) and np.array_equal(rows, np.arange(len(rows)))
        if same:
            return
        self._tokens = self._tokens[rows]
        self._memory = {name: array[rows] for name, array in self._memory.items()}

    def _run(self) -> Array:
        logits = self._session.decoder.run({_TOKENS: self._tokens, **self._memory})["logits"]
        return np.asarray(logits[:, -1], dtype=np.float32)
