"""Running a module on NumPy arrays: batches for prediction, and step by step, with a cache, for generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import Tensor, nn

from zoo import memory
from zoo.backends import compiling
from zoo.backends.module import ZooModule, last_position, position_ids, rows_at
from zoo.errors import ConfigError
from zoo.modalities.base import Array
from zoo.tasks.generation import most_probable

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str) -> str:
    """The same one. Raises ConfigError for none of "fp32", "bf16" and "fp16"."""
    if precision not in _DTYPES:
        raise ConfigError(f"precision is {precision!r}; use one of: {', '.join(_DTYPES)}.")
    return precision


def lower(precision: str) -> torch.dtype | None:
    """What autocast multiplies in; None for fp32."""
    return _DTYPES[check_precision(precision)]


def answering(device: torch.device, precision: str, *, cached: bool = True) -> AbstractContextManager[Any]:
    """The block in which a network answers: under autocast, where it is not to be in fp32.

    cached: whether a weight in the lower precision is kept within the block, which a graph of kernels can't rely on.
    """
    dtype = lower(precision)
    if device.type == "cpu":
        memory.keep()
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=cached)


def torch_call(
    module: ZooModule, device: torch.device, *, precision: str = "fp32", compile: bool = False
) -> Callable[..., Mapping[str, Tensor]]:
    """`zoo.backends.torch_call`."""
    check_precision(precision)
    call = compiling.forward_of(module) if compile else module

    def answer(**inputs: Tensor) -> Mapping[str, Tensor]:
        with answering(device, precision):
            found: Mapping[str, Tensor] = call(**inputs)
        return found

    return answer


class HasInputs(Protocol):
    """A `zoo.inference.Batch`, as far as it is needed here."""

    @property
    def inputs(self) -> dict[str, Array]: ...


@final
class TorchForward:
    """A module as a function from a batch to named arrays: floats as float32, lengths as int64.

    precision: "fp32", or "bf16" / "fp16" under autocast. compile: by torch's compiler.
    """

    def __init__(
        self, module: ZooModule, device: torch.device | str, *, precision: str = "fp32", compile: bool = False
    ) -> None:
        self.device = torch.device(device)
        self._call = torch_call(module, self.device, precision=precision, compile=compile)

    def __call__(self, batch: HasInputs) -> dict[str, Array]:
        with torch.inference_mode():
            outputs = self._call(**to_device(batch.inputs, self.device))
        return {name: to_numpy(tensor) for name, tensor in outputs.items()}


@final
class TorchEmbed:
    """A module as a function from a batch to `embedding`, float32 `[B, D]`, whatever its task is."""

    def __init__(
        self,
        module: ZooModule,
        device: torch.device | str,
        *,
        pooling: str | None = None,
        precision: str = "fp32",
        compile: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.precision = check_precision(precision)
        self._call = compiling.embed_of(module, pooling) if compile else partial(module.embed, pooling)

    def __call__(self, batch: HasInputs) -> dict[str, Array]:
        with torch.inference_mode(), answering(self.device, self.precision):
            return {"embedding": to_numpy(self._call(**to_device(batch.inputs, self.device)))}


@final
class CachedStepper:
    """The next token's logits, each earlier token computed once.

    A language model on its device; prompts may be padded on either side. Not for two generations at a time.
    """

    def __init__(self, module: ZooModule, device: torch.device | str, *, precision: str = "fp32") -> None:
        self.module: Any = module
        self.precision = check_precision(precision)
        self.net: nn.Module = module.net
        # Architectures with relative positions take none.
        self.positions: bool = getattr(module, "positions", False)
        self.device = torch.device(device)
        self.mask: Tensor | None = None
        self.cache: Any = None

    def start(self, input_ids: Array, attention_mask: Array) -> Array:
        """int64 `[B, T]` prompts and their mask; float32 `[B, V]` logits of the token after each."""
        mask = torch.from_numpy(np.ascontiguousarray(attention_mask)).to(self.device).long()
        ids = torch.from_numpy(np.ascontiguousarray(input_ids)).to(self.device)
        self.mask, self.cache = mask, self.module.fresh_cache()
        if self.cache is not None and bool(mask[:, -1].all()):
            # All end in the last place, and the vocabulary is asked once a row.
            return to_numpy(self._run(ids, position_ids(mask), logits_to_keep=1)[:, -1])
        return to_numpy(rows_at(self._run(ids, position_ids(mask)), last_position(mask)))

    def advance(self, tokens: Array) -> Array:
        """int64 `[B]`: the token chosen for each row; float32 `[B, V]` logits of the one after."""
        assert self.mask is not None, "start() comes first"
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device).view(-1, 1)
        # The new token's position is the number of real ones before it, on whichever side the padding is.
        positions = self.mask.sum(dim=1, keepdim=True)
        self.mask = torch.cat((self.mask, torch.ones_like(ids)), dim=1)
        return to_numpy(self._run(ids, positions)[:, -1])

    def best(self, tokens: Array) -> Array:
        """The same, but of the logits no more than the place of the largest, int64 `[B]`; -1 where one is no number."""
        return most_probable(self.advance(tokens))

    @property
    def checks(self) -> bool:
        """`zoo.tasks.generation.Checker`: where the cache can be cut back to an earlier token."""
        return self.cache is not None and bool(getattr(self.module, "caches", False))

    def check(self, tokens: Array) -> Array:
        """int64 `[T]`: more of the one row; float32 `[T, V]` logits of what follows each."""
        assert self.mask is not None, "start() comes first"
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(self.device).view(1, -1)
        self.mask = torch.cat((self.mask, torch.ones_like(ids)), dim=1)
        return to_numpy(self._run(ids, position_ids(self.mask)[:, -len(tokens) :])[0])

    def forget(self, count: int) -> None:
        """Of those the last so many."""
        assert self.mask is not None, "start() comes first"
        self.mask = self.mask[:, :-count]
        self.cache.crop(-count)

    def select(self, rows: Array) -> None:
        """Keep these rows, in this order: int64 `[K]` indices into the present ones."""
        assert self.mask is not None, "start() comes first"
        index = torch.from_numpy(np.ascontiguousarray(rows)).to(self.device)
        self.mask = self.mask[index]
        self.cache.batch_select_indices(index)

    def _run(self, ids: Tensor, positions: Tensor, **options: Any) -> Tensor:
        if self.positions:
            options["position_ids"] = positions
        with torch.inference_mode(), answering(self.device, self.precision):
            output = self.net(
                input_ids=ids, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, **options
            )
        self.cache = output.past_key_values
        logits: Tensor = output.logits
        return logits


def to_device(inputs: dict[str, Array], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in inputs.items()}


def to_numpy(tensor: Tensor) -> Array:
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    array: Array = tensor.detach().cpu().numpy()
    return array
