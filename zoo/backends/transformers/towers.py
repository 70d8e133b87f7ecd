"""Two towers that embed into one space: CLIP, SigLIP and CLAP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from zoo.backends.module import Normalize, ZooModule
from zoo.backends.transformers.clap import fuse
from zoo.errors import ConfigError
from zoo.modalities import side_of
from zoo.spec import ImageInput, ModelSpec

_TEXTS = ("input_ids", "attention_mask")
# What makes vectors of the towers' answers, and logits of vectors.
_HEADS = (
    "visual_projection", "audio_projection", "text_projection", "logit_scale", "logit_scale_a", "logit_scale_t",
    "logit_bias",
)  # fmt: skip


@final
class TowersModule(ZooModule):
    """Inputs of either tower, or of both: uint8 `pixel_values [B, 3, H, W]`, or float32 `input_features [B, 1, frames,
    bins]` (`[B, 4, frames, bins]` with int64 `is_longer [B, 1]` where a long recording's parts are fused); int64
    `input_ids [B, T]` and `attention_mask [B, T]`, padded on the right.

    Outputs of each tower that had some: `image_embeds [B, D]` (or `audio_embeds`, `text_embeds`) of unit length, and
    `..._scale [B]` and `..._bias [B]`: a cosine times the one, plus the other, is the model's logit.

    graphs: file stem of each graph, and the method that it is made of.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        heads = tuple(name for name in _HEADS if getattr(net, name, None) is not None)
        super().__init__(net, spec=spec, task=task, head=heads)
        self.side = side_of(spec)
        self.graphs = {self.side: "embed_media", "text": "embed_text"}
        self.prepare = Normalize(spec.input) if isinstance(spec.input, ImageInput) else None
        self.longer = fuse(net) if spec.architecture == "clap" else None

    def takes(self, graph: str, known: Mapping[str, Any]) -> list[str]:
        """The inputs of a graph among the known arrays."""
        return [name for name in known if (name in _TEXTS) == (graph == "text") and not _is_output(name)]

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        texts = {name: tensor for name, tensor in inputs.items() if name in _TEXTS}
        media = {name: tensor for name, tensor in inputs.items() if name not in _TEXTS}
        outputs = self.embed_media(**media) if media else {}
        return {**outputs, **(self.embed_text(**texts) if texts else {})}

    def pooled(self, pooling: str, **inputs: Tensor) -> Tensor:
        """The tower's own vector; there is no other."""
        if pooling != self.pooling:
            raise ConfigError(
                f"pooling={pooling!r}: a model with two towers has its own way to a vector; leave it out."
            )
        outputs = self.forward(**inputs)
        return next(tensor for name, tensor in outputs.items() if name.endswith("_embeds"))

    def embed_media(self, **inputs: Tensor) -> dict[str, Tensor]:
        net: Any = self.net
        if self.prepare is not None:
            found = net.get_image_features(pixel_values=self.prepare(inputs["pixel_values"]))
        else:
            found = self._heard(**inputs)
        return self._vectors(self.side, found.pooler_output)

    def train(self, mode: bool = True) -> TowersModule:
        super().train(mode)
        # CLAP's batch norms keep what they have seen: a few recordings say less, and rows must not see each other.
        for part in self.net.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def _heard(self, input_features: Tensor, is_longer: Tensor | None = None) -> Any:
        assert self.longer is not None
        self.longer.rows = None if is_longer is None else is_longer.view(-1) == 1
        try:
            return self.net.get_audio_features(input_features=input_features)  # type: ignore[operator]
        finally:
            self.longer.rows = None

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        net: Any = self.net
        if net.config.model_type == "siglip":
            # SigLIP reads a text off at the last place of a text padded to its full length, and has seen no mask.
            config = net.config.text_config
            ids = input_ids.masked_fill(attention_mask == 0, config.pad_token_id)
            ids = functional.pad(ids, (0, config.max_position_embeddings - ids.shape[1]), value=config.pad_token_id)
            found = net.get_text_features(input_ids=ids)
        else:
            found = net.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        return self._vectors("text", found.pooler_output)

    def _vectors(self, side: str, vectors: Tensor) -> dict[str, Tensor]:
        own = {"audio": "logit_scale_a", "text": "logit_scale_t"}.get(side, "")
        scale: Tensor = getattr(self.net, own, None) if hasattr(self.net, own) else self.net.logit_scale  # type: ignore[assignment]
        bias = getattr(self.net, "logit_bias", None)
        rows = vectors.shape[0]
        zero = torch.zeros(1, device=vectors.device) if bias is None else bias
        return {
            f"{side}_embeds": functional.normalize(vectors.float(), dim=-1),
            f"{side}_scale": scale.float().exp().reshape(1).expand(rows),
            f"{side}_bias": zero.float().reshape(1).expand(rows),
        }


def _is_output(name: str) -> bool:
    return name.endswith(("_embeds", "_scale", "_bias"))
