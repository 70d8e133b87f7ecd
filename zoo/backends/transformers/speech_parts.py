"""What speech models of transformers need so that a padded row answers as it does alone."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

# Of upstream's AMSoftmaxLoss.
_SCALE = 30.0


@final
class MaskedPositionalConvs(nn.Module):
    """Data2VecAudio's stack of positional convolutions, silent outside the real frames; the same parameter names.

    Upstream sets the padded frames to zero before the stack alone: its first layer writes into them, and the second
    reads that back into the real ones (answers of a padded batch were off by 0.02).
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.layers = embedding.layers

    def forward(self, hidden_states: Tensor) -> Tensor:
        """`[B, F, D]`, padded frames exactly zero, as upstream makes them."""
        real = hidden_states.abs().amax(dim=-1, keepdim=True).ne(0).to(hidden_states.dtype).transpose(1, 2)
        hidden_states = hidden_states.transpose(1, 2)
        for layer in self.layers:
            hidden_states = layer(hidden_states) * real
        return hidden_states.transpose(1, 2)


def x_vectors(net: Any, hidden: Tensor, frames: Tensor) -> Tensor:
    """The x-vector of each row, `[B, D]`, as upstream's ...ForXVector gives it for the row alone.

    hidden: `[B, F, H]` of the body; frames: int64 `[B]`, each row's real ones. Upstream forgets the dilation when it
    counts the frames behind the time-delay layers, and so lets some padding into the statistics of a padded row.
    Rows shorter than what the layers span are continued with zeros (upstream refuses them).
    """
    config = net.config
    span = sum((kernel - 1) * step for kernel, step in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
    hidden = net.projector(hidden)
    place = torch.arange(hidden.shape[1], device=hidden.device)
    hidden = hidden * (place < frames.unsqueeze(1)).unsqueeze(-1).to(hidden.dtype)
    hidden = nn.functional.pad(hidden, (0, 0, 0, span))
    for layer in net.tdnn:
        hidden = layer(hidden)
    statistics: Tensor = net.feature_extractor(_statistics(hidden.float(), (frames - span).clamp(min=1)))
    return statistics


def cosine_scores(objective: Any, features: Tensor) -> Tensor:
    """Scaled cosines `[B, C]` of features to each speaker's vector: what AM-softmax compares (arXiv:1801.05599)."""
    weight = nn.functional.normalize(objective.weight, dim=0)
    return _SCALE * nn.functional.normalize(features, dim=1) @ weight


def _statistics(hidden: Tensor, count: Tensor) -> Tensor:
    """Mean and standard deviation (unbiased) over the first `count[b]` frames: `[B, 2 D]`."""
    place = torch.arange(hidden.shape[1], device=hidden.device)
    real = (place < count.unsqueeze(1)).unsqueeze(-1).to(hidden.dtype)
    total = count.view(-1, 1).to(hidden.dtype)
    mean = (hidden * real).sum(dim=1) / total
    squares = ((hidden - mean.unsqueeze(1)).square() * real).sum(dim=1)
    # A floor under the root: its gradient at zero is infinite.
    deviation = (squares / (total - 1).clamp(min=1)).clamp(min=1e-12).sqrt()
    return torch.cat([mean, deviation], dim=-1)
