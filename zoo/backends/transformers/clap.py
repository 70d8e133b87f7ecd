"""CLAP's fusion of a long recording's parts, of any number of rows that have some."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn


class Longer:
    """Which rows of the batch that is being run are longer than one window: bool `[B]`, or None for none."""

    rows: Tensor | None = None


@final
class FusedPatches(nn.Module):
    """`ClapAudioPatchEmbed` with fusion, of the same parts. Upstream gathers the longer rows, which no graph can do
    for rows that it has not seen; here all rows are fused, and the longer ones take that."""

    def __init__(self, patches: Any, longer: Longer) -> None:
        super().__init__()
        self.proj, self.norm = patches.proj, patches.norm
        self.fusion_model, self.mel_conv2d = patches.fusion_model, patches.mel_conv2d
        self.flatten: bool = patches.flatten
        self.patch_stride = patches.patch_stride
        self.longer = longer

    def forward(self, hidden_states: Tensor, is_longer_idx: Any = None) -> Tensor:
        """float `[B, 4, H, W]`: a recording squeezed, and its three parts."""
        whole: Tensor = self.proj(hidden_states[:, :1])
        if self.longer.rows is not None:
            fused = self.fusion_model(whole, self._parts(hidden_states[:, 1:], whole.shape[-1]))
            whole = torch.where(self.longer.rows.view(-1, 1, 1, 1), fused, whole)
        if self.flatten:
            whole = whole.flatten(2).transpose(1, 2)
        patches: Tensor = self.norm(whole)
        return patches

    def _parts(self, parts: Tensor, width: int) -> Tensor:
        """The three parts side by side, and nothing after them: `[B, D, H, width]`."""
        rows, count = parts.shape[:2]
        local = self.mel_conv2d(parts.flatten(0, 1).unsqueeze(1)).unflatten(0, (rows, count))
        local = local.permute(0, 2, 3, 1, 4).flatten(3)
        return nn.functional.pad(local, (0, width - local.shape[-1]))


def fuse(net: Any) -> Longer:
    """Put it into a CLAP network that fuses; the answer is told of each batch's longer rows."""
    encoder, longer = net.audio_model.audio_encoder, Longer()
    if encoder.enable_fusion:
        encoder.patch_embed = FusedPatches(encoder.patch_embed, longer)
        # Upstream's own gathering of the longer rows is of no use then.
        encoder.enable_fusion = False
    return longer
