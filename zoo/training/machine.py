"""What training runs on: one device or several processes, a precision. All of it is accelerate's."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, cast, final

import accelerate
import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn

from zoo import compiler, memory
from zoo.errors import ConfigError
from zoo.training import dropout
from zoo.training.config import TrainConfig

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@final
class Machine:
    """The processes of this run and the device of this one.

    rank, world: this process and how many there are. main: the one that prints and writes.
    precision: "fp32", "bf16" or "fp16", resolved.
    """

    def __init__(self, accelerator: accelerate.Accelerator, device: torch.device, precision: str) -> None:
        self.accelerator = accelerator
        self.device = device
        self.precision = precision
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes
        self.main: bool = self.rank == 0

    def prepare(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, *, compiled: bool = False
    ) -> tuple[nn.Module, Any]:
        """The module as the forward pass sees it, and accelerate's optimizer."""
        # Wrapped first: accelerate replaces `forward` for mixed precision, and the module is the user's.
        wrapped = Wrapped(module)
        if compiled:
            compiler.check(self.device.type)
            wrapped.compile(dynamic=True)
        network, prepared = self.accelerator.prepare(wrapped, optimizer)
        return network, prepared

    def total(self, values: list[float]) -> Tensor | list[float]:
        """Each value summed over all processes: a tensor on the device if there are several, without waiting."""
        if self.world == 1:
            return values
        # Filled on the device: copying numbers there would wait for it.
        return self.sum(torch.stack([torch.full((), value, device=self.device) for value in values]))

    def sum(self, tensor: Tensor) -> Tensor:
        if self.world == 1:
            return tensor
        reduced = self.accelerator.reduce(tensor, reduction="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    def agree(self, value: Any) -> Any:
        """The main process's value on every process."""
        if self.world == 1:
            return value
        return broadcast_object_list([value], from_process=0)[0]

    def everyone(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()

    def no_sync(self, network: nn.Module) -> AbstractContextManager[Any]:
        return self.accelerator.no_sync(network) if self.world > 1 else nullcontext()

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)


@final
class Wrapped(nn.Module):
    """A module inside another, so that what is done to the outer one leaves no trace."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Tensor) -> Any:
        return self.module(**inputs)


@contextmanager
def running(module: nn.Module, config: TrainConfig) -> Iterator[Machine]:
    """The machine, with the module on its device and the seed set; afterwards all global state is as before."""
    with ExitStack() as stack:
        stack.enter_context(_own_accelerate_state())
        stack.enter_context(_same_randomness_afterwards())
        machine = _machine(next(module.parameters()).device, config)
        module.to(machine.device)
        if machine.device.type == "cuda":
            stack.enter_context(_tf32(config.tf32))
        else:
            memory.keep()
        seed_all(config.seed + machine.rank)
        if config.compile:
            stack.enter_context(_padded(module))
        stack.enter_context(dropout.quick(machine.device, unless=config.compile or config.gradient_checkpointing))
        yield machine


@contextmanager
def _padded(module: nn.Module) -> Iterator[None]:
    """A compiler makes one kernel of a padded batch, and many pieces of packed texts."""
    before = module.packs
    module.packs = False  # type: ignore[assignment]
    try:
        yield
    finally:
        module.packs = before


def _machine(device: torch.device, config: TrainConfig) -> Machine:
    precision = resolve_precision(config.precision, device)
    accelerator = accelerate.Accelerator(
        cpu=device.type == "cpu",
        device_placement=False,
        mixed_precision=_PRECISIONS[precision],
        # Networks leave parts unused: a pooler, a dropped layer.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        log_with=list(config.log) or None,
        project_dir=str(config.output_dir) if config.output_dir else None,
    )
    # One process trains where the model is, be it the second GPU; of several, each has its own device.
    return Machine(accelerator, accelerator.device if accelerator.num_processes > 1 else device, precision)


def resolve_precision(asked: str, device: torch.device) -> str:
    """ "fp32", "bf16" or "fp16". Raises ConfigError for one that the device does not have."""
    bf16 = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))
    if asked == "auto":
        return ("bf16" if bf16 else "fp16") if device.type == "cuda" else "fp32"
    if asked == "fp16" and device.type != "cuda":
        raise ConfigError(f'precision="fp16" needs a CUDA GPU; the model is on {device.type}. Use "auto" or "fp32".')
    if asked == "bf16" and not bf16:
        raise ConfigError(f'precision="bf16" is not available on {device}. Use "auto", "fp16" or "fp32".')
    return asked


@contextmanager
def _own_accelerate_state() -> Iterator[None]:
    """accelerate keeps its settings in process-wide dicts, where the first precision asked for would stay."""
    shared = [kind._shared_state for kind in (AcceleratorState, GradientState)]
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        shared.append(PartialState._shared_state)
    before = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        yield
    finally:
        for state, old in zip(shared, before, strict=True):
            state.clear()
            state.update(old)


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _same_randomness_afterwards() -> Iterator[None]:
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def seed_all(seed: int) -> None:
    """Seed what models draw from: torch (dropout), NumPy (masking of spectra), Python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Where all generators of this process stand, in types that `torch.load(weights_only=True)` reads."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    for device, saved in enumerate(state["cuda"]):
        torch.cuda.set_rng_state(saved, device)
