"""Encoder-decoder modules: their contract, and stepping through them with a cache. For any upstream library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from zoo.backends.module import ZooModule
from zoo.backends.running import answering, check_precision, to_device, to_numpy
from zoo.modalities.base import Array


class EncoderDecoder(ZooModule):
    """A module of two halves, each exported to a graph of its own, so that the encoder runs once an input.

    graphs: file stem of each graph, and the method that it is made of: arrays by name in, tensors by name out.
    memory: names of the encoder's inputs that the decoder reads too (a mask of the text).
    """

    graphs: ClassVar[Mapping[str, str]] = {"encoder": "encode", "decoder": "decode"}
    memory: ClassVar[tuple[str, ...]] = ("attention_mask",)

    def takes(self, graph: str, known: Mapping[str, Any]) -> list[str]:
        """The inputs of a graph among the known arrays: the encoder's arrays, then what the decoder reads of them."""
        if graph == "encoder":
            return [name for name in known if name != "decoder_input_ids"]
        return ["decoder_input_ids", "encoder_hidden", *(name for name in self.memory if name in known)]

    @abstractmethod
    def encode(self, **inputs: Tensor) -> dict[str, Tensor]:
        """`encoder_hidden [B, T, D]` of the encoder's arrays."""

    @abstractmethod
    def decode(self, decoder_input_ids: Tensor, encoder_hidden: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        """`logits [B, L, V]` of the token after each of int64 `decoder_input_ids [B, L]`, padded on the right."""

    @abstractmethod
    def cached(self, tokens: Tensor, encoder_hidden: Tensor, memory: Mapping[str, Tensor], cache: Any) -> Any:
        """Logits `[B, L, V]` of further tokens, and the cache with them in it. cache: None at the beginning."""

    @property
    @abstractmethod
    def caches(self) -> bool:
        """Whether `begin` and `go_on` can be asked: whether the graphs of this module are ones with a cache."""

    @abstractmethod
    def begin(self, **inputs: Tensor) -> dict[str, Tensor]:
        """`encode`, and what the decoder's layers see of it: `cross.N.key` and `.value`, `[B, heads, S, width]`."""

    @abstractmethod
    def go_on(self, decoder_input_ids: Tensor, **arrays: Tensor) -> dict[str, Tensor]:
        """`logits [B, L, V]` of further tokens, int64 `[B, L]`, and the cache with them in it, `present.N.key` and on.

        arrays: `cross.N.key`, `.value` of `begin`; what the decoder reads of the encoder's inputs; and the cache of P
        earlier tokens, `past_key_values.N.key`, `.value`, `[B, heads, P, width]`. See `zoo.tasks.caching`.
        """

    def forward(self, decoder_input_ids: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """`logits [B, L, V]`, each token seeing those before it, and `encoder_hidden [B, T, D]`."""
        hidden = self.encode(**inputs)["encoder_hidden"]
        memory = {name: inputs[name] for name in self.memory if name in inputs}
        return {**self.decode(decoder_input_ids, hidden, **memory), "encoder_hidden": hidden}


@final
class CachedSequences:
    """`zoo.tasks.sequences.SequenceStepper` over a module. Not for two generations at a time."""

    def __init__(
        self, module: EncoderDecoder, device: torch.device | str | None = None, *, precision: str = "fp32"
    ) -> None:
        self._module = module
        self._precision = check_precision(precision)
        self._given = device
        self._device = torch.device("cpu")
        self._hidden: Tensor | None = None
        self._memory: dict[str, Tensor] = {}
        self._cache: Any = None

    def start(self, inputs: Mapping[str, Array], prompts: Array) -> Array:
        # Training moves a module after its validation was prepared.
        self._device = torch.device(self._given or next(self._module.parameters()).device)
        arrays = to_device({name: np.ascontiguousarray(array) for name, array in inputs.items()}, self._device)
        with torch.no_grad(), answering(self._device, self._precision):
            self._hidden = self._module.encode(**arrays)["encoder_hidden"]
        self._memory = {name: arrays[name] for name in self._module.memory if name in arrays}
        self._cache = None
        return self._run(prompts)

    def advance(self, tokens: Array) -> Array:
        return self._run(tokens[:, None])

    def select(self, rows: Array) -> None:
        assert self._hidden is not None, "start() comes first"
        index = torch.from_numpy(np.ascontiguousarray(rows)).to(self._device)
        self._hidden = self._hidden[index]
        self._memory = {name: tensor[index] for name, tensor in self._memory.items()}
        self._cache.batch_select_indices(index)

    def _run(self, tokens: Array) -> Array:
        assert self._hidden is not None, "start() comes first"
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(self._device)
        with torch.no_grad(), answering(self._device, self._precision):
            logits, self._cache = self._module.cached(ids, self._hidden, self._memory, self._cache)
        return to_numpy(logits[:, -1])
