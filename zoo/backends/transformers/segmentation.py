"""Models that label every pixel: SegFormer, UperNet and their like."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor
from transformers import PreTrainedModel

from zoo.backends.module import Normalize, ZooModule
from zoo.backends.transformers.parts import head_of
from zoo.errors import ConfigError
from zoo.spec import ImageInput, ModelSpec


@final
class SegmentationModule(ZooModule):
    """In: uint8 `pixel_values [B, 3, H, W]`, normalised inside. Out: logits `[B, C, h, w]`, of upstream's grid."""

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        assert isinstance(spec.input, ImageInput)
        self.prepare = Normalize(spec.input)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(pixel_values=self.prepare(pixel_values)).logits}

    def pooled(self, pooling: str, pixel_values: Tensor) -> Tensor:
        """Of the body's deepest feature map. "mean" or "max" over its cells; there is no class token."""
        if pooling not in ("mean", "max"):
            raise ConfigError(f"{type(self.net).__name__} has a feature map and no tokens; pooling is 'mean' or 'max'.")
        net: Any = self.net
        values = self.prepare(pixel_values)
        if hasattr(self.net, "backbone"):
            features = net.backbone(values).feature_maps[-1]
        else:
            features = net.base_model(pixel_values=values).last_hidden_state
        flat: Tensor = features.flatten(2)
        return flat.mean(dim=2) if pooling == "mean" else flat.amax(dim=2)
