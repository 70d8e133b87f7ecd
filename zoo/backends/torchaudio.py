"""Wav2Vec2, HuBERT and WavLM of torchaudio. Everything that is torchaudio's own way stays in this file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
import torchaudio  # type: ignore[import-untyped]
from torch import Tensor, nn

from zoo.backends.module import ZooModule, masked_group_norm, pool
from zoo.backends.weights import State, load_into
from zoo.errors import SpecError, UnknownModel, WeightsUnavailable, suggest
from zoo.spec import AudioInput, ModelSpec, TaskName, Weights

TASKS: tuple[TaskName, ...] = ("automatic-speech-recognition", "audio-classification", "feature-extraction")
# Builders that take every option by name, and those that fix an architecture.
_BUILDERS = (
    "wav2vec2_model", "wavlm_model", "wav2vec2_base", "wav2vec2_large", "wav2vec2_large_lv60k", "hubert_base",
    "hubert_large", "hubert_xlarge", "wav2vec2_xlsr_300m", "wav2vec2_xlsr_1b", "wav2vec2_xlsr_2b", "wavlm_base",
    "wavlm_large",
)  # fmt: skip
_REGISTRY = "torchaudio"


@final
class TorchaudioModule(ZooModule):
    """Inputs: float32 `input_values [B, S]` and int64 `attention_mask [B, S]`, padded on the right."""

    def __init__(self, net: nn.Module, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=("aux",) if task != "feature-extraction" else ())
        layers: Any = net.feature_extractor.conv_layers  # type: ignore[union-attr]
        if isinstance(layers[0].layer_norm, nn.GroupNorm):
            layers[0] = MaskedGroupNormBlock(layers[0])

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(input_values=input_values, attention_mask=attention_mask)}
        net: Any = self.net
        hidden, frames = self._hidden(input_values, attention_mask)
        if self.task == "automatic-speech-recognition":
            return {"logits": net.aux(hidden), "lengths": frames}
        return {"logits": net.aux(pool(hidden, _real(hidden, frames), "mean"))}

    def pooled(self, pooling: str, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        hidden, frames = self._hidden(input_values, attention_mask)
        return pool(hidden, _real(hidden, frames), pooling)

    def _hidden(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, F, D]`, and the frames of each row's real samples: int64 `[B]`."""
        net: Any = self.net
        features, frames = net.feature_extractor(input_values, attention_mask.long().sum(dim=-1))
        return net.encoder(features, frames), frames


@final
class MaskedGroupNormBlock(nn.Module):
    """Upstream's first convolution with its group norm over real frames alone; the same parameter names."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.layer_norm, self.conv = block.layer_norm, block.conv
        self.kernel_size, self.stride = block.kernel_size, block.stride

    def forward(self, x: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.conv(x)
        if length is None:
            return nn.functional.gelu(self.layer_norm(x)), None
        length = (torch.div(length - self.kernel_size, self.stride, rounding_mode="floor") + 1).clamp(min=0)
        return nn.functional.gelu(masked_group_norm(x, length, self.layer_norm)), length


def _real(hidden: Tensor, frames: Tensor) -> Tensor:
    return torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0) < frames.unsqueeze(1)


def build(spec: ModelSpec, *, task: str, labels: tuple[str, ...], state: Mapping[str, Tensor] | None) -> ZooModule:
    if task not in TASKS:
        raise SpecError(f"{spec.name} (torchaudio) can't be built for {task!r}; it can be for: {', '.join(TASKS)}.")
    if spec.architecture not in _BUILDERS:
        raise UnknownModel(
            f"torchaudio has no model {spec.architecture!r}.{suggest(spec.architecture, _BUILDERS)} "
            f"Use one of: {', '.join(_BUILDERS)}."
        )
    outputs = len(labels) if task != "feature-extraction" else None
    try:
        net = getattr(torchaudio.models, spec.architecture)(**{**spec.config, "aux_num_out": outputs})
    except (TypeError, ValueError) as error:
        raise SpecError(f"torchaudio can't build {spec.architecture!r} with {spec.config}: {error}") from error
    module = TorchaudioModule(net, spec=spec, task=task)
    if state is not None:
        where = f"torchaudio's {spec.architecture}"
        module.fresh_head = load_into(net, state, is_head=lambda key: key.startswith("aux."), where=where)
    return module


def resolve(name: str) -> ModelSpec:
    """The spec of a pipeline of torchaudio, such as `WAV2VEC2_ASR_BASE_960H`."""
    known = sorted(key for key, value in vars(torchaudio.pipelines).items() if _is_pipeline(value))
    if name.upper() not in known:
        raise UnknownModel(
            f"torchaudio has no speech pipeline {name!r}.{suggest(name.upper(), known)} They are: {', '.join(known)}."
        )
    pipeline: Any = getattr(torchaudio.pipelines, name.upper())
    labels = tuple(pipeline.get_labels(blank="<pad>")) if hasattr(pipeline, "get_labels") else None
    return ModelSpec(
        name=name.lower().replace("_", "-"),
        title=f"torchaudio's {name.upper()}",
        modality="audio",
        tasks=TASKS if labels else ("feature-extraction", "audio-classification", "automatic-speech-recognition"),
        backend="torchaudio",
        architecture="wavlm_model" if pipeline._model_type == "WavLM" else "wav2vec2_model",
        config={key: _plain(value) for key, value in pipeline._params.items() if key != "aux_num_out"},
        weights=Weights(repo=_REGISTRY, revision=name.upper(), file=pipeline._path),
        input=AudioInput(sampling_rate=int(pipeline.sample_rate), normalize=pipeline._normalize_waveform),
        labels=labels,
    )


def fetch(spec: ModelSpec) -> State:
    """The weights of a pipeline, through torch's own cache (TORCH_HOME)."""
    assert spec.weights is not None
    pipeline: Any = getattr(torchaudio.pipelines, spec.weights.revision, None)
    if not _is_pipeline(pipeline):
        raise WeightsUnavailable(f"torchaudio has no pipeline {spec.weights.revision!r}.")
    try:
        net = pipeline.get_model(dl_kwargs={"weights_only": True, "progress": False})
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"The weights of torchaudio's {spec.weights.revision} could not be had ({error}). With a connection, once, "
            f"they are kept in TORCH_HOME; zoo.load('torchaudio:{spec.weights.revision}', weights=None) needs none."
        ) from error
    return dict(getattr(net, "model", net).state_dict())


def _is_pipeline(value: Any) -> bool:
    return isinstance(value, torchaudio.pipelines.Wav2Vec2Bundle)


def _plain(value: Any) -> Any:
    """Tuples as lists: what YAML has."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
