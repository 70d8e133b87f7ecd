"""The parts of an upstream model: its body, and what belongs to the task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from zoo.backends.linear import Linear


def base_of(net: Any) -> Any:
    """The body within a model with a head; the model itself when it has none."""
    return getattr(net, net.base_model_prefix, net)


# Detectors keep their heads' copies within the decoder, and as large as the labels are many.
_DETECTOR_HEADS = (
    "class_labels_classifier", "bbox_predictor", "class_embed", "bbox_embed", "enc_score_head", "enc_bbox_head",
    "denoising_class_embed",
)  # fmt: skip
_BESIDE_BACKBONE = ("decode_head", "auxiliary_head")


def head_of(net: Any) -> tuple[str, ...]:
    if type(net).__name__.endswith("ForObjectDetection"):
        return tuple(name for name, _ in net.named_modules() if name.rpartition(".")[2] in _DETECTOR_HEADS)
    if base_of(net) is net:
        # A backbone of any kind with the layers of a segmentation, which know the labels, beside it.
        return tuple(name for name in _BESIDE_BACKBONE if getattr(net, name, None) is not None)
    names = [name for name, child in net.named_children() if any(True for _ in child.parameters())]
    return tuple(name for name in (*names, *net._parameters) if name != net.base_model_prefix)


def linear_head(net: Any) -> nn.Linear | None:
    """The output layer of a language model, where it is a matrix and no more."""
    head = net.get_output_embeddings()
    # Another subclass may do more than multiply.
    return head if type(head) in (nn.Linear, Linear) and head.bias is None else None


@contextmanager
def hearing(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The list that what goes into a layer is appended to."""
    heard: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    try:
        yield heard
    finally:
        hook.remove()
