"""VITS: text to a waveform in one pass, its noise among the inputs, so that an answer depends on its seed alone."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from zoo.backends.module import ZooModule
from zoo.errors import ConfigError, SpecError
from zoo.spec import ModelSpec

# Of the spline's bins, as upstream: least width, height and derivative.
_LEAST = 1e-3


@final
class VitsModule(ZooModule):
    """Inputs: int64 `input_ids [B, T]` and `attention_mask [B, T]`, float32 `speaking_rate [B]`, `duration_noise
    [B, T, 2]` and `noise [B, T, N]`, N a multiple of the flow's channels C: N / C frames of it for each token, begun
    again where the speech is longer.

    Outputs: `waveform [B, S]` and int64 `lengths [B]`, in samples. Upstream's own layers, in upstream's order; two
    things differ. Noise comes from outside. The vocoder sees zeros behind a row's end, as it would see the row alone:
    upstream's biases run back into the speech there, so that a row would sound otherwise beside a longer one.
    """

    def __init__(self, net: PreTrainedModel, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=())
        if getattr(net.config, "num_speakers", 1) > 1:
            raise SpecError(f"{spec.name} has {net.config.num_speakers} speakers; this version speaks with one voice.")

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        speaking_rate: Tensor,
        duration_noise: Tensor,
        noise: Tensor,
    ) -> dict[str, Tensor]:
        net: Any = self.net
        mask = attention_mask.unsqueeze(1).to(noise.dtype)
        encoded = net.text_encoder(
            input_ids=input_ids, padding_mask=mask.transpose(1, 2), attention_mask=attention_mask
        )
        log_duration = self._log_durations(encoded.last_hidden_state.transpose(1, 2), mask, duration_noise)
        duration = torch.ceil(log_duration.exp() * mask * (1.0 / speaking_rate).view(-1, 1, 1)).squeeze(1)
        frames = duration.sum(dim=1).clamp(min=1).long()
        places = _places(frames)
        real = (places.unsqueeze(0) < frames.unsqueeze(1)).unsqueeze(1).to(noise.dtype)
        # The token that each frame belongs to.
        ends = duration.cumsum(dim=1).long().unsqueeze(1)
        token = (places.view(1, -1, 1) >= ends).sum(dim=2).clamp(max=input_ids.shape[1] - 1)
        means, log_variances = (_taken(values, token) for values in (encoded.prior_means, encoded.prior_log_variances))
        drawn = noise.reshape(noise.shape[0], -1, means.shape[-1])
        each = noise.shape[2] // means.shape[-1]
        drawn = _taken(drawn, places.unsqueeze(0) % (attention_mask.sum(dim=1, keepdim=True) * each))
        latents = (means + drawn * log_variances.exp()).transpose(1, 2) * real
        for flow in reversed(net.flow.flows):
            latents = _uncoupled(flow, latents.flip(1), real)
        waveform = _voiced(net.decoder, latents * real, frames)
        return {"waveform": waveform, "lengths": frames * math.prod(net.config.upsample_rates)}

    def pooled(self, pooling: str, *args: Any, **inputs: Any) -> Tensor:
        raise ConfigError(f"{self.task} gives no vectors: embed() is for models of text, images and sound.")

    def _log_durations(self, hidden: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """`[B, 1, T]`: the logarithm of each token's frames. hidden: `[B, C, T]`, mask: `[B, 1, T]`."""
        net: Any = self.net
        predictor = net.duration_predictor
        if not net.config.use_stochastic_duration_prediction:
            found: Tensor = predictor(hidden, mask)
            return found
        condition = predictor.conv_proj(predictor.conv_dds(predictor.conv_pre(hidden), mask)) * mask
        *flows, _, first = reversed(predictor.flows)  # upstream leaves that one out
        latents = noise.transpose(1, 2)
        for flow in flows:
            latents = _unflowed(flow, latents.flip(1), mask, condition)
        latents, _ = first(latents.flip(1), mask, reverse=True)
        log_durations: Tensor = latents[:, :1]
        return log_durations


def _places(frames: Tensor) -> Tensor:
    """int64 `[F]`: 0, 1, ... for the longest of the rows."""
    longest = frames.max().item()
    torch._check(longest >= 1)  # type: ignore[no-untyped-call]
    return torch.arange(longest, device=frames.device)


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """`values[b, index[b]]`: `[B, T, C]` and int64 `[B, F]` as `[B, F, C]`."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.shape[2]))


def _uncoupled(layer: Any, latents: Tensor, mask: Tensor) -> Tensor:
    """A coupling layer of the flow, in reverse. latents: `[B, C, F]`."""
    first, second = latents[:, : layer.half_channels], latents[:, layer.half_channels :]
    hidden = _waves(layer.wavenet, layer.conv_pre(first) * mask, mask)
    return torch.cat([first, (second - layer.conv_post(hidden) * mask) * mask], dim=1)


def _waves(net: Any, inputs: Tensor, mask: Tensor) -> Tensor:
    """Upstream's WaveNet without a speaker's condition."""
    outputs = torch.zeros_like(inputs)
    size = net.hidden_size
    for index, (inner, skip) in enumerate(zip(net.in_layers, net.res_skip_layers, strict=True)):
        hidden = inner(inputs)
        both = skip(net.dropout(hidden[:, :size].tanh() * hidden[:, size:].sigmoid()))
        if index < net.num_layers - 1:
            inputs = (inputs + both[:, :size]) * mask
            both = both[:, size:]
        outputs = outputs + both
    return outputs * mask


def _unflowed(layer: Any, latents: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
    """A spline flow of the duration predictor, in reverse. latents: `[B, 2, T]`."""
    first, second = latents[:, : layer.half_channels], latents[:, layer.half_channels :]
    hidden = layer.conv_proj(layer.conv_dds(layer.conv_pre(first), mask, condition)) * mask
    batch, channels, length = first.shape
    hidden = hidden.reshape(batch, channels, -1, length).transpose(2, 3)
    scale = math.sqrt(layer.filter_channels)
    widths, heights = hidden[..., : layer.num_bins] / scale, hidden[..., layer.num_bins : 2 * layer.num_bins] / scale
    second = _unsplined(second, widths, heights, hidden[..., 2 * layer.num_bins :], float(layer.tail_bound))
    return torch.cat([first, second], dim=1) * mask


def _unsplined(values: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, bound: float) -> Tensor:
    """The inverse of a rational quadratic spline, the identity beyond the bound. (Durkan et al., 2019.)

    values: `[...]`; widths, heights: `[..., K]` and slopes `[..., K - 1]`, all unnormalised.
    """
    x_edges, x_sizes = _edges(widths, bound)
    y_edges, y_sizes = _edges(heights, bound)
    outer = torch.full_like(slopes[..., :1], math.log(math.exp(1 - _LEAST) - 1))
    slopes = _LEAST + nn.functional.softplus(torch.cat([outer, slopes, outer], dim=-1))
    inside = values.clamp(-bound, bound)
    tops = torch.cat([y_edges[..., :-1], y_edges[..., -1:] + 1e-6], dim=-1)
    index = ((inside.unsqueeze(-1) >= tops).sum(dim=-1, keepdim=True) - 1).clamp(0, widths.shape[-1] - 1)

    def here(given: Tensor) -> Tensor:
        return given.gather(-1, index).squeeze(-1)

    delta = here(y_sizes / x_sizes)
    slope, following, height = here(slopes), here(slopes[..., 1:]), here(y_sizes)
    above = inside - here(y_edges)
    bend = above * (slope + following - 2 * delta)
    # The root of a quadratic equation.
    a, b, c = height * (delta - slope) + bend, height * slope - bend, -delta * above
    root = (2 * c) / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
    return torch.where(values.abs() <= bound, root * here(x_sizes) + here(x_edges), values)


def _edges(sizes: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Edges `[..., K + 1]` of bins from -bound to bound, and their sizes `[..., K]`."""
    count = sizes.shape[-1]
    shares = _LEAST + (1 - _LEAST * count) * sizes.softmax(dim=-1)
    inner = 2 * bound * shares.cumsum(dim=-1)[..., :-1] - bound
    ends = torch.full_like(inner[..., :1], bound)
    edges = torch.cat([-ends, inner, ends], dim=-1)
    return edges, edges[..., 1:] - edges[..., :-1]


def _voiced(net: Any, latents: Tensor, frames: Tensor) -> Tensor:
    """Upstream's HiFi-GAN, with zeros behind each row's end before every convolution. `[B, C, F]` to `[B, S]`."""
    slope, lengths = net.config.leaky_relu_slope, frames
    hidden = net.conv_pre(latents)
    for index, upsample in enumerate(net.upsampler):
        hidden = upsample(nn.functional.leaky_relu(_ended(hidden, lengths), slope))
        lengths = lengths * net.config.upsample_rates[index]
        hidden = _ended(hidden, lengths)
        blocks = net.resblocks[index * net.num_kernels : (index + 1) * net.num_kernels]
        total = _resonant(blocks[0], hidden, lengths)
        for block in blocks[1:]:
            total = total + _resonant(block, hidden, lengths)
        hidden = total / net.num_kernels
    hidden = net.conv_post(nn.functional.leaky_relu(_ended(hidden, lengths)))
    return _ended(hidden.tanh(), lengths).squeeze(1)


def _resonant(block: Any, hidden: Tensor, lengths: Tensor) -> Tensor:
    for first, second in zip(block.convs1, block.convs2, strict=True):
        inner = first(nn.functional.leaky_relu(hidden, block.leaky_relu_slope))
        inner = second(nn.functional.leaky_relu(_ended(inner, lengths), block.leaky_relu_slope))
        hidden = _ended(inner + hidden, lengths)
    return hidden


def _ended(values: Tensor, lengths: Tensor) -> Tensor:
    """`[B, C, S]` with zeros from `lengths[b]` on."""
    places = torch.arange(values.shape[-1], device=values.device)
    return values * (places.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(1).to(values.dtype)
