"""Ragged texts without their padding: on a CPU, where every padded token costs what a real one does.

A batch comes padded, because everything around an encoder's layers wants it so. Where the layers begin, the real
tokens of all its texts are put after each other into one row, which is all that norms and matrices need; attention
alone keeps the texts apart. Where the layers end, the padding is put back, as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
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

_mask: ContextVar[Tensor | None] = ContextVar("mask of the batch that is being packed", default=None)


def prepare(net: PreTrainedModel) -> bool:
    """Have a network ready for `packed`. False for an architecture whose padding can't be left out like this."""
    layers = getattr(base_of(net), _LAYERS.get(net.config.model_type, ""), None)
    if layers is None or net.config._attn_implementation != "sdpa" or getattr(net.config, "is_decoder", False):
        return False
    net.set_attn_implementation(_NAME)
    layers.register_forward_pre_hook(_pack, with_kwargs=True)
    layers.register_forward_hook(_unpack)
    return True


@contextmanager
def packed(attention_mask: Tensor, *, unless: bool = False) -> Iterator[None]:
    """In this block a prepared network leaves padding on the right out, if there is any. attention_mask: `[B, T]`.

    On a CPU alone: not while a graph is traced, which has to be one for any batch; nor on a GPU, where as many
    attentions as there are texts are slower than the padding.
    """
    wanted = (
        not unless
        and not torch.compiler.is_compiling()
        and attention_mask.device.type == "cpu"
        and not bool(attention_mask.all())
        # Some heads read the first place, be it padding, whose hidden state would be another.
        and bool(attention_mask[:, 0].all())
    )
    token = _mask.set(attention_mask.bool() if wanted else None)
    try:
        yield
    finally:
        _mask.reset(token)


def _pack(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:
    mask = _mask.get()
    if mask is None or named.get("past_key_values") is not None:
        return None
    hidden = given[0] if given else named["hidden_states"]
    # A prompt that was learned stands before the texts, and in no mask of theirs.
    if hidden.shape[:2] != mask.shape:
        return None
    named = {name: value for name, value in named.items() if name != "hidden_states"}
    # A second one by its place is the mask, too.
    return (hidden[mask][None],), {**named, "attention_mask": None, "packed_lengths": mask.sum(dim=1).tolist()}


def _unpack(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
    mask, hidden = _mask.get(), output.last_hidden_state
    if mask is None or hidden.shape[:2] != (1, int(mask.sum())):
        return None
    whole = hidden.new_zeros((*mask.shape, hidden.shape[-1]))
    whole[mask] = hidden[0]
    output.last_hidden_state = whole
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
    packed_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' scaled dot product; of packed texts each by itself. query, key, value: `[B, heads, T, width]`."""
    if packed_lengths is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    texts = zip(*(torch.split(tensor, packed_lengths, dim=2) for tensor in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling) for q, k, v in texts]
    return torch.cat(found, dim=2).transpose(1, 2), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
