"""Generation over a cache of one size, which is what one graph of CUDA kernels can be replayed on, step by step.

A step of a small language model is hundreds of short kernels, and to launch them one by one takes longer than they run
(https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs). The numbers are the plain step's to rounding.
"""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.backends.running import CachedStepper, answering, lower, to_numpy
from zoo.modalities.base import Array

_LEAST = 128  # tokens of the smallest room
_ROOMY = 8  # how many times more room than needed is taken, rather than another graph made
_KEPT = 2**30  # bytes of keys and values that may stay on the device between two generations


@final
class FixedStepper:
    """`zoo.tasks.steppers.Stepper` whose step is one CUDA graph. Not for two generations at a time.

    Prompts are read as by `CachedStepper`, and their keys and values move into a room for more of them, twice as large
    each time it is full. Rows that `select` leaves out are still computed, until half of all are left: another number
    of rows needs another graph. The room and its graph stay for the next prompts, if there are as many of them.

    compile: the step by torch's compiler, whose kernels are fewer; prompts are read as they are.
    """

    def __init__(
        self, module: Any, device: torch.device | str, *, precision: str = "fp32", compile: bool = False
    ) -> None:
        self._reader = CachedStepper(module, device, precision=precision)
        self._module = module
        net = lowered(module.net, lower(precision))
        self._net: Callable[..., Any] = torch.compile(net) if compile else net
        self._precision = precision
        self._rows: Array = np.zeros(0, dtype=np.int64)
        self._room: Room | None = None

    @torch.inference_mode()
    def start(self, input_ids: Array, attention_mask: Array) -> Array:
        """int64 `[B, T]` prompts and their mask; float32 `[B, V]` logits of the token after each."""
        logits = self._reader.start(input_ids, attention_mask)
        mask, layers = self._reader.mask, [(layer.keys, layer.values) for layer in self._reader.cache.layers]
        self._reader.mask = self._reader.cache = None
        assert mask is not None
        self._move(layers, mask)
        return logits

    def advance(self, tokens: Array) -> Array:
        """int64 `[B]`: the token chosen for each row; float32 `[B, V]` logits of the one after."""
        return to_numpy(self._step(tokens).logits)[self._rows]

    def best(self, tokens: Array) -> Array:
        """The same, but of the logits no more than the place of the largest, int64 `[B]`; -1 where one is no number."""
        return to_numpy(self._step(tokens).best)[self._rows]

    @torch.inference_mode()
    def select(self, rows: Array) -> None:
        """Keep these rows, in this order, none of them twice: int64 `[K]` indices into the present ones."""
        self._rows = self._rows[rows]
        assert len(set(self._rows.tolist())) == len(self._rows), "a row goes on in one place"
        room = self._room
        assert room is not None, "start() comes first"
        if 2 * len(self._rows) <= room.batch:
            index = torch.from_numpy(self._rows).to(room.tokens.device)
            self._move([(keys[index], values[index]) for keys, values in room.filled()], room.seen()[index])

    @torch.inference_mode()
    def _step(self, tokens: Array) -> Room:
        room = self._room
        assert room is not None, "start() comes first"
        if room.full:
            room = self._move(room.filled(), room.seen())
        given = np.zeros(room.batch, dtype=np.int64)
        given[self._rows] = tokens
        room.tokens.copy_(torch.from_numpy(given).view(-1, 1))
        room.run()
        return room

    @property
    def nbytes(self) -> int:
        """Of the room."""
        return self._room.nbytes if self._room is not None else 0

    def _move(self, layers: Sequence[tuple[Tensor, Tensor]], mask: Tensor) -> Room:
        """Into a room with as many rows as these, and with space for more than their tokens."""
        batch, length = mask.shape
        room = self._room
        if room is None or room.batch != batch or not length < room.capacity <= _ROOMY * max(length, _LEAST):
            self._room = None  # what of it is not in `layers` is free before there is another
            capacity = max(_LEAST, 1 << length.bit_length())
            room = Room(self._net, self._module.fixed_cache, layers, capacity, self._precision)
        room.fill(layers, mask)
        self._room, self._rows = room, np.arange(batch)
        return room


@final
class Room:
    """Keys and values of `batch` rows, up to `capacity` tokens each, and the step that writes one more.

    tokens: int64 `[B, 1]`, which `run` reads. logits: float32 `[B, V]`, and best: int64 `[B]`, which it writes.
    """

    def __init__(
        self,
        net: Callable[..., Any],
        make: Callable[[Sequence[tuple[Tensor, Tensor]], Tensor], Any],
        layers: Sequence[tuple[Tensor, Tensor]],
        capacity: int,
        precision: str,
    ) -> None:
        self.batch = len(layers[0][0])
        self.capacity = capacity
        device, dtype = layers[0][0].device, lower(precision) or torch.float32
        self.tokens = torch.zeros((self.batch, 1), dtype=torch.long, device=device)
        self.best = torch.zeros(self.batch, dtype=torch.long, device=device)
        self.logits = torch.zeros(0, device=device)
        self._net = net
        self._precision = precision
        self._place = torch.zeros(1, dtype=torch.long, device=device)
        self._positions = torch.zeros((self.batch, 1), dtype=torch.long, device=device)
        # Added to the scores of a query with each key: nothing where there is one to see.
        self._unseen = float(torch.finfo(dtype).min)
        self._mask = torch.full((self.batch, 1, 1, capacity), self._unseen, dtype=dtype, device=device)
        self._layers = [(_longer(keys, capacity), _longer(values, capacity)) for keys, values in layers]
        self._cache = make(self._layers, self._place)
        self._length = 0
        self._graph = self._captured(device) if device.type == "cuda" else None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for pair in self._layers for part in pair)

    @property
    def full(self) -> bool:
        return self._length == self.capacity

    def fill(self, layers: Sequence[tuple[Tensor, Tensor]], mask: Tensor) -> None:
        """layers: keys and values of tokens so far, `[B, heads, P, width]`. mask: int64 `[B, P]`, 1 where one is."""
        self._length = mask.shape[1]
        for rooms, parts in zip(self._layers, layers, strict=True):
            for place, part in zip(rooms, parts, strict=True):
                place[:, :, : self._length] = part
        self._mask.fill_(self._unseen)
        self._mask[:, 0, 0, : self._length].masked_fill_(mask.bool(), 0)
        self._positions.copy_(mask.sum(dim=1, keepdim=True))
        self._place.fill_(self._length)

    def filled(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values so far, as `fill` takes them."""
        return [(keys[:, :, : self._length], values[:, :, : self._length]) for keys, values in self._layers]

    def seen(self) -> Tensor:
        """The mask of the tokens so far, as `fill` takes it."""
        return (self._mask[:, 0, 0, : self._length] == 0).long()

    def run(self) -> None:
        """Write `tokens` behind the others, and what comes next to `logits` and `best`."""
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()
        self._length += 1

    def _step(self) -> None:
        self._mask.index_fill_(-1, self._place, 0)
        with answering(self.tokens.device, self._precision, cached=False):
            output = self._net(
                input_ids=self.tokens, attention_mask=self._mask, position_ids=self._positions,
                past_key_values=self._cache, use_cache=True,
            )  # fmt: skip
        self.logits = output.logits[:, -1].float()
        highest, place = self.logits.max(dim=-1)
        self.best.copy_(place.masked_fill(highest.isnan(), -1))
        self._place += 1
        self._positions += 1

    def _captured(self, device: torch.device) -> torch.cuda.CUDAGraph | None:
        """The step as a graph: what it writes lies where it lay when it was made. None for a step that waits for the
        device, which goes on kernel by kernel."""
        with torch.cuda.device(device):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                # Libraries choose their kernels and take their memory at a first run, which no graph may hold.
                self._step()
                waits = self._waits()
            torch.cuda.current_stream().wait_stream(aside)
            if waits:
                return None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
        return graph

    def _waits(self) -> bool:
        """Whether numbers on the device decide what is run, as with experts or positions that are scaled by length."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            self._step()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            return True
        finally:
            torch.cuda.set_sync_debug_mode(before)
        return False


def _longer(part: Tensor, capacity: int) -> Tensor:
    """`[B, heads, P, width]` as zeros `[B, heads, C, width]`."""
    return part.new_zeros((*part.shape[:2], capacity, part.shape[-1]))


@final
class Kept:
    """Steppers between two generations, of a module that is as it was. A copy of the module begins with none."""

    def __init__(self) -> None:
        self._kept: list[tuple[Any, FixedStepper]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def clear(self) -> None:
        """Give back the memory."""
        self._kept.clear()

    @contextmanager
    def borrowed(
        self, module: nn.Module, device: torch.device, precision: str, *, compile: bool = False
    ) -> Iterator[FixedStepper]:
        """One that nobody else has; it is not kept afterwards where its room is large. A graph reads weights where they
        lay, and a lower precision is a copy of them."""
        weights = itertools.chain(module.parameters(), module.buffers())
        state = (device, precision, compile, tuple((part.data_ptr(), _changes(part)) for part in weights))
        try:
            found, stepper = self._kept.pop()
        except IndexError:
            found = stepper = None
        if stepper is None or found != state:
            # The module holds it and not the other way round, so that both are gone, with their memory, when that is.
            stepper = FixedStepper(weakref.proxy(module), device, precision=precision, compile=compile)
        yield stepper
        self._kept[:] = [(state, stepper)] if stepper.nbytes <= _KEPT else []


def _changes(part: Tensor) -> int:
    """How often it was written to, as far as torch counts it."""
    return 0 if part.is_inference() else part._version


def lowered(net: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """The same network, whose matrices are what autocast would make of them at each step; itself for None.

    Everything else is shared with it.
    """
    if dtype is None:
        return net
    from transformers.pytorch_utils import Conv1D

    shared = {id(part): part for part in itertools.chain(net.parameters(), net.buffers())}
    other = copy.deepcopy(net, shared)
    for part in other.modules():
        if isinstance(part, (nn.Linear, Conv1D)):
            for name in ("weight", "bias"):
                if (value := getattr(part, name)) is not None:
                    setattr(part, name, nn.Parameter(value.detach().to(dtype), requires_grad=False))
    return other
