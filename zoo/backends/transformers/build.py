"""A spec as a module, with upstream's own loader of weights."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.models.auto import modeling_auto

from zoo.backends.module import OPTIONAL, ZooModule
from zoo.backends.transformers.config import classes, make_config, quiet
from zoo.backends.transformers.parts import head_of
from zoo.backends.weights import check_fit
from zoo.errors import SpecError, ZooError
from zoo.spec import ModelSpec

_SLACK = 10_000_000  # numbers that a new head, or a table of positions, may have beside the weights
# Where the module of a task is; of a kind of input or a modality for tasks that are not named. Imported when it is
# built.
_MODULES = {
    "towers": "towers:TowersModule",
    "mel": "spectrogram:SpectrogramModule",
    "pretraining": "pretraining:PretrainingModule",
    "text": "text:TextModule",
    "audio": "audio:AudioModule",
    "vision": "image:ImageModule",
    "image-segmentation": "segmentation:SegmentationModule",
    "summarization": "seq2seq:Seq2SeqModule",
    "translation": "seq2seq:Seq2SeqModule",
    "text-to-speech": "vits:VitsModule",
    "speech-seq2seq": "speech_seq2seq:SpeechSeq2SeqModule",
    "object-detection": "detection:DetectionModule",
}


def build(spec: ModelSpec, *, task: str, labels: tuple[str, ...], state: Mapping[str, Tensor] | None) -> ZooModule:
    config = make_config(spec, task=task, labels=labels)
    model = _class_of(spec, config, task)
    if state is not None:
        _check_size(model, config, state, spec)
    try:
        with quiet():
            if state is None:
                net, fresh = model._from_config(config, dtype=torch.float32), True
            else:
                net, fresh = _load(model, config, state, spec)
    # Sizes that do not fit each other show wherever a layer is made of them.
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, ZooError):
            raise
        raise SpecError(f"transformers can't build {spec.name} ({spec.architecture}): {error!r}") from error
    _one_kernel(net)
    module: ZooModule = _module_class(spec, task)(net, spec=spec, task=task)
    module.fresh_head = fresh and bool(module.head)
    return module


def _one_kernel(net: nn.Module) -> None:
    """The tanh form of GELU as torch's own: upstream writes it out in eight steps, which round a little otherwise."""
    for part in list(net.modules()):
        for name, child in part.named_children():
            if isinstance(child, (NewGELUActivation, FastGELUActivation)):
                setattr(part, name, nn.GELU(approximate="tanh"))


def _check_size(model: Any, config: Any, state: Mapping[str, Tensor], spec: ModelSpec) -> None:
    """Raises SpecError for a configuration of a far larger network than the weights are of, before it is built."""
    said = {key: value for key, value in config.to_dict().items() if type(value) is int}
    # Qwen's max_window_layers is the number of a layer, not of layers, and may lie beyond the last.
    counts = {key: value for key, value in said.items() if "layers" in key and not key.startswith("max_")}
    if any(value > len(state) for value in counts.values()):
        raise SpecError(f"{spec.name}: its configuration has more layers than its weights have tensors.")
    given = sum(tensor.numel() for tensor in state.values())
    if math.prod(sorted(said.values())[-2:]) <= 4 * given + _SLACK:
        return
    # Two of its numbers could be a layer's sides, or be something else: upstream counts.
    with quiet(), torch.device("meta"):
        wanted = sum(parameter.numel() for parameter in model(config).parameters())
    if wanted > 4 * given + _SLACK:
        raise SpecError(f"{spec.name}: its configuration is of {wanted:,} numbers, and its weights are {given:,}.")


def _module_class(spec: ModelSpec, task: str) -> Any:
    written = "speech-seq2seq" if spec.modality == "audio" and spec.decoder is not None else task
    towers = ("towers",) if spec.text is not None else ()
    keys = (written, task, *towers, spec.input.kind, spec.modality)
    module, name = next(_MODULES[key] for key in keys if key in _MODULES).split(":")
    return getattr(importlib.import_module(f"zoo.backends.transformers.{module}"), name)


def _class_of(spec: ModelSpec, config: PreTrainedConfig, task: str) -> Any:
    found = classes(config).get(task)
    if spec.embedding.pooling == "xvector" and task in ("feature-extraction", "audio-classification"):
        found = modeling_auto.MODEL_FOR_AUDIO_XVECTOR_MAPPING.get(type(config), None)
    if found is None:
        raise SpecError(
            f"{spec.name} ({spec.architecture}) can't be built for {task!r}; "
            f"it can be for: {', '.join(classes(config))}."
        )
    return found[0] if isinstance(found, (list, tuple)) else found


def _load(model: Any, config: Any, state: Mapping[str, Tensor], spec: ModelSpec) -> tuple[Any, bool]:
    """Upstream's own loader, which knows every architecture's prefixes and older names; its report is judged here."""
    net, report = model.from_pretrained(
        None,
        config=config,
        state_dict=dict(state),
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        dtype=torch.float32,
    )
    _own_memory(net, state)
    head = head_of(net)
    mismatched = {key: (came, wanted) for key, came, wanted in report["mismatched_keys"]}
    differing = {key: shapes for key, shapes in mismatched.items() if not _within(key, head)}
    absent = [key for key in report["missing_keys"] if not _within(key, head)]
    missing = [key for key in absent if OPTIONAL.isdisjoint(key.split("."))]
    extra = [key for key in report["unexpected_keys"] if _beyond(key, net)]
    check_fit(f"{spec.name} ({spec.architecture})", missing=missing, differing=differing, extra=extra)
    fresh = any(_within(key, (*head, f"{net.base_model_prefix}.pooler")) for key in report["missing_keys"])
    return net, fresh or any(_within(key, head) for key in mismatched)


def _within(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _beyond(key: str, net: Any) -> bool:
    """Whether a key is of a layer that the network does not have: the checkpoint is of a deeper one."""
    for path in (key, f"{net.base_model_prefix}.{key}", key.removeprefix(f"{net.base_model_prefix}.")):
        for found in re.finditer(r"\.(\d+)\.", path):
            try:
                layers = net.get_submodule(path[: found.start()])
            except AttributeError:
                continue
            if isinstance(layers, nn.ModuleList) and int(found.group(1)) >= len(layers):
                return True
    return False


def _own_memory(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Parameters may come back as the very tensors given: training one model would then change another."""
    given = {tensor.data_ptr() for tensor in state.values() if tensor.numel()}
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.data_ptr() in given:
            tensor.data = tensor.data.clone()
