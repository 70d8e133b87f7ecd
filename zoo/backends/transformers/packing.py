"""Ragged texts without their padding, which costs what real tokens do.

A batch comes padded, because everything around an encoder's layers wants it so. Where the layers begin, the real
tokens of all its texts are put after each other into one row, which is all that norms and matrices need; attention
alone keeps the texts apart. Where the layers end, the padding is put back, as zeros.

On a CPU each text has an attention of its own. On a GPU one kernel knows where each text begins, torch's
`varlen_attn`: it takes fp16 and bf16, and drops nothing out, so that it answers and does not learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from zoo.backends.transformers.parts import base_of

_NAME = "sdpa_packed"
# The layers of each architecture. Positions are added before them, and nothing but attention looks at other tokens.
_LAYERS = {
    "albert": "encoder", "bert": "encoder", "camembert": "encoder", "distilbert": "transformer", "electra": "encoder",
    "ernie": "encoder", "roberta": "encoder", "xlm-roberta": "encoder",
}  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class _Batch:
    """places: of the real tokens, int64 `[N]`, counted through the whole batch. mask: bool `[B, T]`."""

    mask: Tensor
    places: Tensor


_batch: ContextVar[_Batch | None] = ContextVar("the batch that is being packed", default=None)


def prepare(net: PreTrainedModel) -> bool:
    """Have a network ready for `packed`. False for an architecture whose padding can't be left out like this."""
    layers = getattr(base_of(net), _LAYERS.get(net.config.model_type, ""), None)
    if layers is None or net.config._attn_implementation != "sdpa" or getattr(net.config, "is_decoder", False):
        return False
    net.set_attn_implementation(_NAME)
    width = net.config.hidden_size // net.config.num_attention_heads
    # What the kernel of a GPU takes.
    layers.register_forward_pre_hook(partial(_pack, on_gpu=width % 8 == 0 and width <= 256), with_kwargs=True)
    layers.register_forward_hook(_unpack)
    return True


def packed(attention_mask: Tensor, *, unless: bool = False) -> AbstractContextManager[None]:
    """In this block a prepared network leaves padding on the right out, if there is any. attention_mask: `[B, T]`.

    Not while a graph is traced, which has to be one for any batch; nor on a GPU what is learned from, or in fp32.
    """
    # A tracer has to see nothing of the block, or it would give up here.
    return nullcontext() if unless or torch.compiler.is_compiling() else _packed(attention_mask)


@contextmanager
def _packed(attention_mask: Tensor) -> Iterator[None]:
    device = attention_mask.device
    token = _batch.set(_real(attention_mask.bool()) if _one_by_one(device) or _answers(device) else None)
    try:
        yield
    finally:
        _batch.reset(token)


def _one_by_one(device: torch.device) -> bool:
    """Whether each text has an attention of its own, which on a GPU would be slower than the padding."""
    return device.type == "cpu"


def _answers(device: torch.device) -> bool:
    """Whether a GPU has the kernel and computes in what it takes, and nobody asks for gradients."""
    return (
        device.type == "cuda"
        and not torch.is_grad_enabled()
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") in (torch.float16, torch.bfloat16)
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _real(mask: Tensor) -> _Batch | None:
    """None where there is no padding, and where a text does not begin at the first place: some heads read it, be it
    padding, whose hidden state would be another."""
    places = mask.flatten().nonzero()[:, 0]
    return _Batch(mask, places) if len(places) < mask.numel() and bool(mask[:, 0].all()) else None


def _now() -> _Batch | None:
    return None if torch.compiler.is_compiling() else _batch.get()


def _pack(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], *, on_gpu: bool) -> tuple[Any, Any] | None:
    batch = _now()
    if batch is None or named.get("past_key_values") is not None:
        return None
    hidden = given[0] if given else named["hidden_states"]
    # A prompt that was learned stands before the texts, and in no mask of theirs.
    one_by_one = _one_by_one(hidden.device)
    if hidden.shape[:2] != batch.mask.shape or not (one_by_one or on_gpu):
        return None
    named = {name: value for name, value in named.items() if name != "hidden_states"}
    lengths = batch.mask.sum(dim=1)
    texts: list[int] | Tensor = lengths.tolist() if one_by_one else _begins(lengths)
    # A second one by its place is the mask, too.
    row = hidden.flatten(0, 1)[batch.places][None]
    return (row,), {**named, "attention_mask": None, "packed_texts": (texts, batch.mask.shape[1])}


def _begins(lengths: Tensor) -> Tensor:
    """Where each text begins in the row, and where the last one ends: int32 `[B + 1]`."""
    return pad(lengths.cumsum(0), (1, 0)).int()


def _unpack(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
    batch, hidden = _now(), output.last_hidden_state
    if batch is None or hidden.shape[:2] != (1, len(batch.places)):
        return None
    whole = hidden.new_zeros((batch.mask.numel(), hidden.shape[-1]))
    whole[batch.places] = hidden[0]
    output.last_hidden_state = whole.view(*batch.mask.shape, -1)
    return output


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed_texts: tuple[list[int] | Tensor, int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' scaled dot product; of packed texts each by itself. query, key, value: `[B, heads, T, width]`."""
    if packed_texts is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    texts, longest = packed_texts
    if isinstance(texts, Tensor):
        return _by_one_kernel(query, key, value, texts, longest, scaling), None
    each = zip(*(torch.split(tensor, texts, dim=2) for tensor in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling) for q, k, v in each]
    return torch.cat(found, dim=2).transpose(1, 2), None


def _by_one_kernel(
    query: Tensor, key: Tensor, value: Tensor, begins: Tensor, longest: int, scaling: float | None
) -> Tensor:
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    found: Any = varlen_attn(q, k, v, begins, begins, longest, longest, scale=scaling)
    row: Tensor = found[None]
    return row


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
