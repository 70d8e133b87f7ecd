"""Models over the raw waveform."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo.backends.module import ZooModule, masked_group_norm, pool
from zoo.backends.transformers.parts import base_of, head_of
from zoo.backends.transformers.speech_parts import MaskedPositionalConvs, cosine_scores, x_vectors
from zoo.errors import ConfigError, SpecError
from zoo.spec import ModelSpec


@final
class AudioModule(ZooModule):
    """Models over the raw waveform: Wav2Vec2, HuBERT, WavLM and their kin.

    With an x-vector head (`spec.embedding.pooling` is "xvector"), classification compares x-vectors with a vector for
    each label: logits are 30 times their cosines.

    Inputs: float32 `input_values [B, S]` and int64 `attention_mask [B, S]`, padded on the right.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        base: Any = base_of(net)
        layers = getattr(getattr(base, "feature_extractor", None), "conv_layers", None)
        if layers is None:
            raise SpecError(f"{spec.architecture!r} does not take the raw waveform, which is what the zoo's audio is.")
        self.masked = isinstance(getattr(layers[0], "layer_norm", None), nn.GroupNorm)
        if self.masked:
            layers[0] = MaskedGroupNormConv(layers[0])
        self.speakers = hasattr(net, "tdnn")
        embedding = getattr(getattr(base, "encoder", None), "pos_conv_embed", None)
        if hasattr(embedding, "layers"):
            base.encoder.pos_conv_embed = MaskedPositionalConvs(embedding)
        self.augment = bool(getattr(net.config, "apply_spec_augment", True))

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(input_values=input_values, attention_mask=attention_mask)}
        if self.speakers:
            net: Any = self.net
            return {
                "logits": cosine_scores(net.objective, net.classifier(self._x_vectors(input_values, attention_mask)))
            }
        logits = self.net(**self._inputs(input_values, attention_mask)).logits
        if self.task == "automatic-speech-recognition":
            return {"logits": logits, "lengths": self.frames(attention_mask)}
        return {"logits": logits}

    def pooled(self, pooling: str, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        if pooling == "xvector":
            if not self.speakers:
                raise ConfigError('pooling="xvector" needs a model with an x-vector head, such as wavlm-base-plus-sv.')
            return self._x_vectors(input_values, attention_mask)
        hidden: Tensor = base_of(self.net)(**self._inputs(input_values, attention_mask)).last_hidden_state
        counted = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        return pool(hidden, counted < self.frames(attention_mask).unsqueeze(1), pooling)

    def frames(self, attention_mask: Tensor) -> Tensor:
        """int64 `[B]`: how many frames the real samples of each row become."""
        net: Any = self.net
        frames: Tensor = net._get_feat_extract_output_lengths(attention_mask.long().sum(dim=-1))
        return frames.long()

    def _x_vectors(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        net: Any = self.net
        weighted = bool(getattr(net.config, "use_weighted_layer_sum", False))
        inputs = self._inputs(input_values, attention_mask)
        found = base_of(net)(**inputs, output_hidden_states=weighted)
        hidden = found.last_hidden_state
        if weighted:
            shares = torch.softmax(net.layer_weights, dim=-1).view(-1, 1, 1, 1)
            hidden = (torch.stack(tuple(found.hidden_states)) * shares).sum(dim=0)
        return x_vectors(net, hidden, self.frames(attention_mask))

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
