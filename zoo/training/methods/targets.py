"""Which layers of a network a method changes: found by their kind, and by the names that architectures use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from zoo.errors import ConfigError

# Where a transformer's layer projects back to its own width: after attention, and after the feed-forward part.
_OUTPUTS = re.compile(
    r"""(.*\.)?(
        attention\.output\.dense | output\.dense      # BERT, RoBERTa, ELECTRA, DeBERTa, ViT, Swin, AST
      | attention\.out_lin | ffn\.lin2                # DistilBERT
      | attention\.dense | (.*\.)?ffn_output          # ALBERT
      | attn\.c_proj | mlp\.c_proj                    # GPT-2
      | mlp\.dense_4h_to_h                            # GPT-NeoX
      | (attention|self_attn|encoder_attn|self_attention)\.out_proj
      | feed_forward\.output_dense                    # Wav2Vec2, HuBERT, WavLM
      | fc2 | mlp\.fc2                                # BART, Marian, Whisper, CLIP; timm's
      | attn\.proj                                    # timm's
      | attention\.o_proj | self_attn\.o_proj | mlp\.down_proj   # LLaMA, Qwen; transformers' ViT
      | (SelfAttention|EncDecAttention)\.o | DenseReluDense\.wo  # T5
      | attn\.Wo | mlp\.Wo                            # ModernBERT
      | attn\.o                                       # MPNet
      | mlp\.dense2                                   # SegFormer
      | mlp\.3                                        # torchvision
    )""",
    re.VERBOSE,
)
_FEED_FORWARD = re.compile(r"(?!.*(attention|attn)\.)(.*\.)?(output\.dense|lin2|ffn_output|c_proj|output_dense|fc2|"
                           r"down_proj|wo|Wo|dense2|dense_4h_to_h|mlp\.3)")  # fmt: skip
# These read the weights of their parts instead of calling them: what is put around a part would be passed by.
_READERS = ("MultiheadAttention", "ShiftedWindowAttention", "WavLMAttention", "WavLMSelfAttention")


def layers(module: Any) -> dict[str, nn.Module]:
    """The linear layers and ungrouped convolutions of the body, by name in the network."""
    shared = _shared(module.net)
    return {
        name: layer
        for name, layer in module.net.named_modules()
        if _plain(layer) and not module.in_head(name) and not _is_read(module.net, name)
        and id(layer.weight) not in shared
    }  # fmt: skip


def named(module: Any, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """The layers whose name ends with one of the given ones. Raises ConfigError for a name that is nowhere."""
    found = {}
    everything = layers(module)
    for pattern in patterns:
        ending = {k: v for k, v in everything.items() if k == pattern or k.endswith(f".{pattern}")}
        if not ending:
            some = ", ".join(
                dict.fromkeys(re.sub(r"^.*?(\w+(?:\.[a-zA-Z_]\w*)?)$", r"\1", name) for name in everything)
            )
            raise ConfigError(
                f"lora_targets names {pattern!r}, and no linear layer or convolution of the body is called that. "
                f"There are: {some[:300]}."
            )
        found.update(ending)
    return {name: everything[name] for name in everything if name in found}


def outputs(module: Any) -> dict[str, nn.Module]:
    """Where bottleneck adapters go: behind attention and feed-forward parts, else behind spatial convolutions."""
    everything = layers(module)
    # Of convolutions, some are called as layers of transformers are: those of squeeze-and-excite.
    found = {
        name: layer
        for name, layer in everything.items()
        if _OUTPUTS.fullmatch(name) and not isinstance(layer, nn.Conv2d)
    }
    return found or dict(_spatial(module))


def feed_forward(names: Sequence[str]) -> list[str]:
    """Of these layers, those whose input is the inner part of a feed-forward network."""
    return [name for name in names if _FEED_FORWARD.fullmatch(name)]


def _spatial(module: Any) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in module.net.named_modules():
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1 and not module.in_head(name):
            yield name, layer


def _shared(net: nn.Module) -> set[int]:
    """Ids of parameters of two modules: what is merged into one (T5's last layer) would change the other (words)."""
    seen: set[int] = set()
    found: set[int] = set()
    for part in net.modules():
        own = {id(parameter) for parameter in part.parameters(recurse=False)}
        found |= seen & own
        seen |= own
    return found


def _plain(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        # timm's own kinds pad as they go, or use another weight than the one that would be merged into.
        return layer.groups == 1 and type(layer).forward is nn.Conv2d.forward
    return isinstance(layer, nn.Linear) or is_conv1d(layer)


def is_conv1d(layer: nn.Module) -> bool:
    """transformers' Conv1D (GPT-2's): a linear layer whose weight is transposed."""
    return any(kind.__name__ == "Conv1D" for kind in type(layer).__mro__) and hasattr(layer, "nf")


def _is_read(net: nn.Module, name: str) -> bool:
    parent = net.get_submodule(name.rpartition(".")[0])
    # timm's attention with biases of its own for queries and values: BEiT's, EVA's, Swin v2's.
    if name.endswith(".qkv") and getattr(parent, "q_bias", None) is not None:
        return True
    return any(kind.__name__ in _READERS for kind in type(parent).__mro__)
