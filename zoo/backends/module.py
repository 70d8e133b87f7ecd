"""The contract of every module of the zoo: the encoder's arrays in, the task's named outputs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.spec import ImageInput, ModelSpec

# What a body may lack: many published checkpoints do, and it is unused or learned again in fine-tuning.
OPTIONAL = frozenset({"pooler", "masked_spec_embed"})
POOLINGS = ("mean", "cls", "max", "last", "xvector")


class ZooModule(nn.Module, ABC):
    """An upstream network behind one interface. Abstract; each backend has final ones.

    net: the upstream module; what is saved is `net.state_dict()`, with upstream's own keys.
    head: names, within `net`, of the modules and parameters that belong to the task.
    task: the task's name. pooling: how `embed` makes one vector of many, unless told otherwise.
    fresh_head: the head's parameters are random, because no checkpoint had any that fit.
    adapted: what a parameter-efficient method of fine-tuning has put into `net`, or None.
    packs: whether the padding of a batch costs nothing on a CPU, because the network leaves it out.
    """

    def __init__(self, net: nn.Module, *, spec: ModelSpec, task: str, head: tuple[str, ...]) -> None:
        super().__init__()
        self.net = net
        self.head = head
        self.task = task
        self.pooling: str = spec.embedding.pooling
        self.fresh_head = True
        self.head_only = False
        self.adapted: Any = None
        self.packs = False

    @abstractmethod
    def forward(self, *args: Any, **inputs: Any) -> dict[str, Tensor]:
        """The outputs of the task, from exactly what the encoder's `collate` gives.

        classification: logits [B, C]; token-classification: logits [B, T, C]; text-generation: logits
        [B, T, V]; automatic-speech-recognition: logits [B, F, V] and int64 lengths [B], the frames of
        each row; feature-extraction: embedding [B, D].
        """

    @abstractmethod
    def pooled(self, pooling: str, *args: Any, **inputs: Any) -> Tensor:
        """One vector `[B, D]` a row, padding left out."""

    def embed(self, pooling: str | None = None, **inputs: Any) -> Tensor:
        """float32 `[B, D]`: one vector a row, of any length: decoding normalises, after windows are averaged.

        pooling: "mean", "cls" (the first token), "max" or "last"; None takes the spec's.
        """
        vectors: Tensor = self.pooled(check_pooling(pooling or self.pooling), **inputs).float()
        return vectors

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """What is the task's alone. Empty where the head shares its weights with the body (GPT-2's)."""
        return (parameter for name, parameter in self.net.named_parameters() if self.in_head(name))

    def body_parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for name, parameter in self.net.named_parameters() if not self.in_head(name))

    def in_head(self, name: str) -> bool:
        """Whether a key of `net.state_dict()` belongs to the head."""
        return any(name == prefix or name.startswith(f"{prefix}.") for prefix in self.head)

    def is_optional(self, name: str) -> bool:
        """Whether a key of the body may be absent from a checkpoint, and then stands at random."""
        return not self.in_head(name) and not OPTIONAL.isdisjoint(name.split("."))

    def set_head_only(self, on: bool) -> None:
        """Freeze everything but the head (also its dropout and batch statistics), or free it again.

        Raises ConfigError when there is no head to train.
        """
        if on and not any(True for _ in self.head_parameters()):
            raise ConfigError(
                f'method="head" needs a head of its own, and {type(self.net).__name__} has none for {self.task}. '
                'Use method="full" or method="lora".'
            )
        self.head_only = on
        for parameter in self.body_parameters():
            parameter.requires_grad_(not on)
        self.train(self.training)

    def train(self, mode: bool = True) -> ZooModule:
        super().train(mode)
        if mode and self.head_only:
            for name, child in self.net.named_modules():
                child.training = self.in_head(name)
        elif mode:
            # A frozen body keeps its statistics too, or an adapter saved alone would not know them.
            for name, child in self.net.named_modules():
                if isinstance(child, nn.modules.batchnorm._BatchNorm) and not self.in_head(name):
                    child.training = self.adapted is None and not _is_frozen(child)
        return self


def _is_frozen(layer: nn.Module) -> bool:
    flags = [parameter.requires_grad for parameter in layer.parameters()]
    return bool(flags) and not any(flags)


class Normalize(nn.Module):
    """uint8 (or float in [0, 255]) `[B, C, H, W]` as `(x / 255 - mean) / std`, in the module's own dtype.

    channels_last: how the values lie in memory, for a network whose weights lie so.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image: ImageInput, *, channels_last: bool = False) -> None:
        super().__init__()
        self.channels_last = channels_last
        for name in ("mean", "std"):
            values = torch.tensor(getattr(image, name), dtype=torch.float32)
            # Of a grey image, one value stands for the three.
            values = values.mean().view(1) if image.channels == 1 else values
            values = values.view(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        if self.channels_last and not torch.compiler.is_compiling():
            # As the kernels of convolutions want it, on CPU and GPU; a graph's runtime lays its values out by itself.
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        return (pixel_values.to(self.mean.dtype) / 255 - self.mean) / self.std


def check_pooling(pooling: str) -> str:
    if pooling not in POOLINGS:
        raise ConfigError(f"Unknown pooling {pooling!r}. Use one of: {', '.join(POOLINGS)}.")
    return pooling


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """`[B, T, D]` and an int or bool mask `[B, T]` (1 = real, padding on either side) as `[B, D]`."""
    if pooling == "cls":
        return rows_at(hidden, mask.long().argmax(dim=1))
    if pooling == "last":
        return rows_at(hidden, last_position(mask))
    if pooling == "xvector":
        raise ConfigError('pooling="xvector" is for speech models with an x-vector head.')
    real = mask.bool().unsqueeze(-1)
    if pooling == "max":
        return hidden.masked_fill(~real, torch.finfo(hidden.dtype).min).amax(dim=1)
    total = hidden.masked_fill(~real, 0.0).sum(dim=1)
    return total / real.sum(dim=1).clamp(min=1).to(hidden.dtype)


def position_ids(attention_mask: Tensor) -> Tensor:
    """int64 `[B, T]`: real tokens counted from 0, so that padding on the left moves nothing."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def last_position(mask: Tensor) -> Tensor:
    """int64 `[B]`: the index of the last 1 of each row of a `[B, T]` mask, whichever side is padded."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (mask.long() * positions).argmax(dim=1)


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """`values[b, index[b]]` for every row: `[B, T, D]` and int64 `[B]` as `[B, D]`."""
    spread = index.view(-1, 1, 1).expand(-1, 1, values.shape[-1])
    return values.gather(1, spread).squeeze(1)


def masked_group_norm(values: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
    """`norm` with one group a channel, its statistics over the first `lengths[b]` frames of each row.

    values: `[B, C, F]`; lengths: int64 `[B]`. Upstream's norm counts the padding too, so a row's answer
    would depend on its neighbours. Statistics are float32 also under autocast.
    """
    unpadded = not (torch.compiler.is_compiling() or values.is_cuda) and bool((lengths >= values.shape[-1]).all())
    if unpadded and values.dtype == torch.float32:
        normed: Tensor = norm(values)
        return normed
    x = values.float()
    frames = torch.arange(values.shape[-1], device=values.device)
    real = (frames.unsqueeze(0) < lengths.unsqueeze(1)).to(x.dtype)
    shares = (real / lengths.clamp(min=1).to(x.dtype).unsqueeze(1)).unsqueeze(2)

    def mean(of: Tensor) -> Tensor:
        # A product reads `[B, C, F]` once, where a masked sum writes it first; but on CUDA it may be of TF32.
        return (of * shares.mT).sum(dim=-1, keepdim=True) if of.is_cuda else of @ shares

    # An exporter takes such a block for a graph within the graph.
    with nullcontext() if torch.compiler.is_exporting() else torch.autocast(values.device.type, enabled=False):
        x = x - mean(x)
        scale = torch.rsqrt(mean(x * x) + norm.eps)
        if norm.affine:
            scale = scale * norm.weight.float().view(1, -1, 1)
        x = x * scale
    if norm.affine:
        x = x + norm.bias.float().view(1, -1, 1)
    return x.to(values.dtype)
