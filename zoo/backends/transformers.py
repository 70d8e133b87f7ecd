"""Text, audio and image models of transformers. Everything that is transformers' own way stays in this file
and, for what its folders say, in `transformers_spec`.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers import logging as transformers_logging
from transformers.models.auto import modeling_auto

from zoo.backends.module import Normalize, ZooModule, last_position, masked_group_norm, pool, position_ids, rows_at
from zoo.backends.weights import check_fit
from zoo.errors import SpecError, UnknownModel, suggest
from zoo.spec import ImageInput, ModelSpec

_AUTO = {
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
    "text-generation": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "audio-classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
    "automatic-speech-recognition": "MODEL_FOR_CTC_MAPPING",
    "feature-extraction": "MODEL_MAPPING",
}
# What a body may lack: many published checkpoints do, and it is unused or learned again in fine-tuning.
_OPTIONAL = ("pooler", "masked_spec_embed")


@final
class TextModule(ZooModule):
    """Inputs: int64 `input_ids [B, T]` and `attention_mask [B, T]`, padded on either side."""

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=_head_of(net))
        self.causal = is_causal(net.config)
        self.positions = self.causal and "position_ids" in inspect.signature(_base(net).forward).parameters

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(input_ids=input_ids, attention_mask=attention_mask)}
        if self.task == "text-classification" and self.causal:
            # Upstream looks for the last token by the padding's id, and refuses batches when there is none.
            hidden = self._hidden(input_ids, attention_mask)
            return {"logits": self.net.score(rows_at(hidden, last_position(attention_mask)))}  # type: ignore[operator]
        return {"logits": self.net(**self._inputs(input_ids, attention_mask)).logits}

    def pooled(self, pooling: str, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return pool(self._hidden(input_ids, attention_mask), attention_mask, pooling)

    def _hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = _base(self.net)(**self._inputs(input_ids, attention_mask)).last_hidden_state
        return hidden

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.causal:
            inputs["use_cache"] = False
        if self.positions:
            inputs["position_ids"] = position_ids(attention_mask)
        return inputs


@final
class AudioModule(ZooModule):
    """Models over the raw waveform: Wav2Vec2, HuBERT and their kin.

    Inputs: float32 `input_values [B, S]` and int64 `attention_mask [B, S]`, padded on the right.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=_head_of(net))
        base: Any = _base(net)
        layers = getattr(getattr(base, "feature_extractor", None), "conv_layers", None)
        if layers is None:
            raise SpecError(f"{spec.architecture!r} does not take the raw waveform, which is what the zoo's audio is.")
        self.masked = isinstance(getattr(layers[0], "layer_norm", None), nn.GroupNorm)
        if self.masked:
            layers[0] = MaskedGroupNormConv(layers[0])
        self.augment = bool(getattr(net.config, "apply_spec_augment", True))

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(input_values=input_values, attention_mask=attention_mask)}
        logits = self.net(**self._inputs(input_values, attention_mask)).logits
        if self.task == "automatic-speech-recognition":
            return {"logits": logits, "lengths": self.frames(attention_mask)}
        return {"logits": logits}

    def pooled(self, pooling: str, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = _base(self.net)(**self._inputs(input_values, attention_mask)).last_hidden_state
        counted = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        return pool(hidden, counted < self.frames(attention_mask).unsqueeze(1), pooling)

    def frames(self, attention_mask: Tensor) -> Tensor:
        """int64 `[B]`: how many frames the real samples of each row become."""
        net: Any = self.net
        frames: Tensor = net._get_feat_extract_output_lengths(attention_mask.long().sum(dim=-1))
        return frames.long()

    def _inputs(self, input_values: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        if self.training and self.augment:
            # SpecAugment raises on a batch that is shorter than one of its masks.
            config: Any = self.net.config
            config.apply_spec_augment = int(self.frames(attention_mask).max()) > config.mask_time_length
        if self.masked:
            # The mask travels as a second channel to the one layer that needs it; upstream passes values alone.
            input_values = torch.stack((input_values, attention_mask.to(input_values.dtype)), dim=1)
        return {"input_values": input_values, "attention_mask": attention_mask}


@final
class MaskedGroupNormConv(nn.Module):
    """Upstream's first convolution with its group norm over real frames alone; the same parameter names.

    Takes `[B, 1, 2, S]`, waveform and mask; or `[B, 1, S]`, the waveform alone, and then does as upstream does.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv, self.activation, self.layer_norm = layer.conv, layer.activation, layer.layer_norm

    def forward(self, hidden_states: Tensor) -> Tensor:
        if hidden_states.dim() == 3:
            normed: Tensor = self.layer_norm(self.conv(hidden_states))
        else:
            wave, mask = hidden_states[:, :, 0], hidden_states[:, 0, 1]
            frames = (mask.float().sum(dim=-1).long() - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
            normed = masked_group_norm(self.conv(wave), frames, self.layer_norm)
        activated: Tensor = self.activation(normed)
        return activated


@final
class ImageModule(ZooModule):
    """Inputs: uint8 `pixel_values [B, 3, H, W]`, normalised inside."""

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=_head_of(net))
        assert isinstance(spec.input, ImageInput)
        self.prepare = Normalize(spec.input)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(pixel_values=pixel_values)}
        return {"logits": self.net(pixel_values=self.prepare(pixel_values)).logits}

    def pooled(self, pooling: str, pixel_values: Tensor) -> Tensor:
        hidden: Tensor = _base(self.net)(pixel_values=self.prepare(pixel_values)).last_hidden_state
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        return pool(hidden, torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device), pooling)


_MODULES: dict[str, Any] = {"text": TextModule, "audio": AudioModule, "vision": ImageModule}


def build(spec: ModelSpec, *, task: str, labels: tuple[str, ...], state: Mapping[str, Tensor] | None) -> ZooModule:
    config = make_config(spec, task=task, labels=labels)
    model = _class_of(spec, config, task)
    with quiet():
        if state is None:
            net, fresh = model._from_config(config, dtype=torch.float32), True
        else:
            net, fresh = _load(model, config, state, spec)
    module: ZooModule = _MODULES[spec.modality](net, spec=spec, task=task)
    module.fresh_head = fresh and bool(module.head)
    return module


def make_config(spec: ModelSpec, *, task: str | None = None, labels: tuple[str, ...] = ()) -> Any:
    """The upstream configuration of a spec. Raises UnknownModel or SpecError."""
    names = modeling_auto.MODEL_MAPPING_NAMES
    if spec.architecture not in names:
        raise UnknownModel(
            f"transformers has no model type {spec.architecture!r}.{suggest(spec.architecture, names)} "
            "It is the `model_type` of a config.json."
        )
    options = dict(spec.config)
    if task == "automatic-speech-recognition":
        options["vocab_size"] = len(labels)
        options["pad_token_id"] = labels.index("<pad>") if "<pad>" in labels else 0
    elif labels and task not in (None, "text-generation", "feature-extraction"):
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: index for index, label in enumerate(labels)}
    try:
        with quiet():
            return AutoConfig.for_model(spec.architecture, **options)
    except (TypeError, ValueError, KeyError) as error:
        raise SpecError(f"transformers can't configure {spec.architecture!r}: {error}") from error


# What a configuration says of the checkpoint's making or of the labels, which the spec itself holds.
_NOT_OF_THE_ARCHITECTURE = {
    "_attn_implementation", "_name_or_path", "architectures", "auto_map", "dtype", "finetuning_task", "id2label",
    "label2id", "model_type", "num_labels", "problem_type", "quantization_config", "task_specific_params",
    "tokenizer_class", "torch_dtype", "transformers_version",
}  # fmt: skip


def complete(spec: ModelSpec) -> ModelSpec:
    """With every option of the architecture, so that later defaults of upstream change nothing in a saved model."""
    config = make_config(spec)
    return spec.evolve(config=essentials(json.loads(config.to_json_string(use_diff=False))))


def essentials(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what is not the architecture's."""
    return {key: value for key, value in config.items() if key not in _NOT_OF_THE_ARCHITECTURE}


def is_causal(config: PreTrainedConfig) -> bool:
    """Whether every token sees only those before it."""
    kind = type(config)
    both = kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    return both and (kind not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING or bool(getattr(config, "is_decoder", 0)))


def _class_of(spec: ModelSpec, config: PreTrainedConfig, task: str) -> Any:
    found = classes(config).get(task)
    if found is None:
        raise SpecError(
            f"{spec.name} ({spec.architecture}) can't be built for {task!r}; "
            f"it can be for: {', '.join(classes(config))}."
        )
    return found[0] if isinstance(found, (list, tuple)) else found


def classes(config: PreTrainedConfig) -> dict[str, Any]:
    """Upstream's class by task, for the tasks that this configuration can be built for."""
    mappings = {task: getattr(modeling_auto, name) for task, name in _AUTO.items()}
    found = {task: mapping[type(config)] for task, mapping in mappings.items() if type(config) in mapping}
    if not is_causal(config):
        # Upstream would run BERT as a language model, in which every token sees the ones to come.
        found.pop("text-generation", None)
    return found


def _base(net: Any) -> Any:
    """The body within a model with a head; the model itself when it has none."""
    return getattr(net, net.base_model_prefix, net)


def _head_of(net: Any) -> tuple[str, ...]:
    if _base(net) is net:
        return ()
    names = [name for name, child in net.named_children() if any(True for _ in child.parameters())]
    return tuple(name for name in (*names, *net._parameters) if name != net.base_model_prefix)


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
    head = _head_of(net)
    mismatched = {key: (came, wanted) for key, came, wanted in report["mismatched_keys"]}
    differing = {key: shapes for key, shapes in mismatched.items() if not _within(key, head)}
    absent = [key for key in report["missing_keys"] if not _within(key, head)]
    missing = [key for key in absent if not set(_OPTIONAL) & set(key.split("."))]
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


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters in them is raised."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
