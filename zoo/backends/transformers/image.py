"""Image models with one answer for the whole image."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zoo.backends.module import Normalize, ZooModule, pool
from zoo.backends.transformers.parts import base_of, head_of
from zoo.spec import ImageInput, ModelSpec

# Vision transformers of one class token (and, where the configuration says so, registers) before the patches.
_CLASS_TOKEN = ("vit", "deit", "dinov2", "dinov2_with_registers", "beit", "vit_msn")


@final
class ImageModule(ZooModule):
    """Inputs: uint8 `pixel_values [B, 3, H, W]`, normalised inside."""

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        assert isinstance(spec.input, ImageInput)
        self.prepare = Normalize(spec.input)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(pixel_values=pixel_values)}
        return {"logits": self.net(pixel_values=self.prepare(pixel_values)).logits}

    def pooled(self, pooling: str, pixel_values: Tensor) -> Tensor:
        hidden: Tensor = base_of(self.net)(pixel_values=self.prepare(pixel_values)).last_hidden_state
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        if pooling in ("mean", "max"):
            hidden = hidden[:, self._not_patches(hidden.shape[1], pixel_values) :]
        return pool(hidden, torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device), pooling)

    def _not_patches(self, tokens: int, pixel_values: Tensor) -> int:
        """How many tokens at the front are no part of the image: the class's and the registers'."""
        config: Any = self.net.config
        if getattr(config, "num_register_tokens", None) is None and config.model_type not in _CLASS_TOKEN:
            return 0
        height, width = pixel_values.shape[-2:]
        patches = (height // config.patch_size) * (width // config.patch_size)
        return max(tokens - int(patches), 0)
