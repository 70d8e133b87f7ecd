"""Detectors of the DETR family: DETR, Conditional DETR, Deformable DETR, RT-DETR."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from zoo.backends.module import Normalize, ZooModule, pool
from zoo.backends.transformers.parts import base_of, head_of
from zoo.spec import ImageInput, ModelSpec


@final
class DetectionModule(ZooModule):
    """Inputs: uint8 `pixel_values [B, 3, H, W]` and, of a padded canvas, `pixel_mask [B, H, W]`, 1 where the image is.

    Outputs: `logits [B, Q, C]` (DETR's have one more, for no object, last) and `boxes [B, Q, 4]`: centre, width and
    height as shares of the image, without its padding. While training also those of every other layer that is
    supervised, `aux_logits [B, L, Q, C]` and `aux_boxes [B, L, Q, 4]`.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=head_of(net))
        assert isinstance(spec.input, ImageInput)
        self.prepare = Normalize(spec.input)
        self.layered = "rt_detr" in spec.architecture
        # The decoders hand out what is between their layers only where they are told so.
        net.config.auxiliary_loss = True
        net.loss_function = _layers

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> dict[str, Tensor]:
        inputs = self._inputs(pixel_values, pixel_mask)
        # Upstream computes the heads of the layers between only where there are labels for its own loss.
        found = self.net(**inputs, labels=[] if self.training and not self.layered else None)
        outputs = {"logits": found.logits, "boxes": found.pred_boxes}
        if self.training:
            outputs.update(_between(found) if self.layered else found.loss_dict)
        return outputs

    def pooled(self, pooling: str, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> Tensor:
        """Of the vectors of the object queries."""
        hidden: Tensor = base_of(self.net)(**self._inputs(pixel_values, pixel_mask)).last_hidden_state
        return pool(hidden, torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device), pooling)

    def _inputs(self, pixel_values: Tensor, pixel_mask: Tensor | None) -> dict[str, Any]:
        pixels = self.prepare(pixel_values)
        if pixel_mask is None:
            return {"pixel_values": pixels}
        # Upstream pads with zeros after the normalisation.
        return {"pixel_values": pixels * pixel_mask.to(pixels.dtype).unsqueeze(1), "pixel_mask": pixel_mask.long()}


def _layers(
    logits: Tensor, labels: Any, device: Any, boxes: Tensor, config: Any, layer_logits: Tensor, layer_boxes: Tensor,
    **_: Any,
) -> tuple[None, dict[str, Tensor], None]:  # fmt: skip
    """In the place of upstream's loss: what it is given of the layers before the last, `[L, B, Q, ...]`."""
    return None, {"aux_logits": layer_logits[:-1].transpose(0, 1), "aux_boxes": layer_boxes[:-1].transpose(0, 1)}, None


def _between(found: Any) -> dict[str, Tensor]:
    """RT-DETR's: the decoder's layers before the last, and the encoder's proposals."""
    logits = [found.intermediate_logits[:, :-1], found.enc_topk_logits.unsqueeze(1)]
    boxes = [found.intermediate_reference_points[:, :-1], found.enc_topk_bboxes.unsqueeze(1)]
    return {"aux_logits": torch.cat(logits, dim=1), "aux_boxes": torch.cat(boxes, dim=1)}
