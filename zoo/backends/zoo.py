"""Networks of our own: Wide & Deep over the columns of a table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from zoo.backends.module import ZooModule
from zoo.backends.weights import load_into
from zoo.errors import SpecError, suggest
from zoo.modalities.tabular import UNKNOWN, categorical, layout
from zoo.spec import ModelSpec, TabularInput

_ARCHITECTURES = ("wide-and-deep",)
TASKS = ("tabular-classification", "tabular-regression", "feature-extraction")
DEFAULTS: dict[str, Any] = {
    "embedding_dim": 16,
    "hidden": [128, 64],
    "dropout": 0.2,
    "unknown_rate": 0.01,
    "hash_above": 20_000,
    "hash_buckets": 50_000,
    "cross_buckets": 50_000,
}


@final
class WideAndDeep(nn.Module):
    """Cheng et al. 2016: a linear model of categories, crosses and numbers plus an MLP over embeddings.

    A category that is unknown or missing has the embedding zero until it is learned; while training, `unknown_rate`
    of the categories are taken for unknown ones, so that there is something to say of a new user or item.
    """

    unknown: Tensor
    pooling: Tensor

    def __init__(self, spec: TabularInput, outputs: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        place, dim = layout(spec), int(options["embedding_dim"])
        self.unknown_rate = float(options["unknown_rate"])
        self.numbers = place.numbers
        self.embedding = nn.Embedding(place.rows, dim, padding_idx=0)
        self.wide = nn.Embedding(place.rows, outputs, padding_idx=0)
        self.crosses = nn.Embedding(place.cross_rows, outputs, padding_idx=0) if spec.crosses else None
        self.line = nn.Linear(2 * place.numbers, outputs, bias=False) if place.numbers else None
        self.bias = nn.Parameter(torch.zeros(outputs))
        features = len(place.bases) * dim + 2 * place.numbers
        self.hidden = _mlp([max(features, 1), *map(int, options["hidden"])], float(options["dropout"]))
        self.out = nn.Linear(int(options["hidden"][-1]), outputs, bias=False)
        self._initialise(place.bases)
        pooling = torch.zeros(len(place.slots), place.width)
        unknown = torch.zeros(place.width, dtype=torch.int64)
        for row, (column, base, (start, end)) in enumerate(
            zip(categorical(spec), place.bases, place.slots, strict=True)
        ):
            pooling[row, start:end] = 1.0
            unknown[start:end] = 0 if column.buckets else base + UNKNOWN
        self.register_buffer("pooling", pooling, persistent=False)
        self.register_buffer("unknown", unknown, persistent=False)

    def _initialise(self, bases: tuple[int, ...]) -> None:
        with torch.no_grad():
            self.embedding.weight.normal_(std=0.05)
            for base in (0, *bases, *(base + UNKNOWN for base in bases)):
                if base < len(self.embedding.weight):
                    self.embedding.weight[base] = 0.0
            for part in (self.wide, self.crosses, self.line):
                if part is not None:
                    part.weight.zero_()

    def features(self, categories: Tensor | None, numbers: Tensor | None) -> Tensor:
        """float32 `[B, H]`: the last hidden layer of the deep part."""
        parts = [numbers] if numbers is not None else []
        if categories is not None:
            vectors = self.pooling @ self.embedding(categories)
            # Of a set, the mean of those that are there.
            count = (categories != 0).to(vectors.dtype) @ self.pooling.T
            parts.append((vectors / count.clamp(min=1.0).unsqueeze(-1)).flatten(1))
        hidden: Tensor = self.hidden(torch.cat(parts, dim=1))
        return hidden

    def forward(self, categories: Tensor | None, crosses: Tensor | None, numbers: Tensor | None) -> Tensor:
        """`[B, outputs]`, before any scale of the target."""
        if self.training and categories is not None:
            categories = self._forget(categories)
        total: Tensor = self.bias + self.out(self.features(categories, numbers))
        if categories is not None:
            total = total + self.wide(categories).sum(dim=1)
        if crosses is not None and self.crosses is not None:
            total = total + self.crosses(crosses).sum(dim=1)
        if numbers is not None and self.line is not None:
            total = total + self.line(numbers)
        return total

    def _forget(self, categories: Tensor) -> Tensor:
        drawn = torch.rand(categories.shape, device=categories.device) < self.unknown_rate
        return torch.where(drawn & (categories != 0) & (self.unknown != 0), self.unknown, categories)


def _mlp(sizes: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


@final
class TabularModule(ZooModule):
    """Inputs: int64 `categories [B, S]` and `crosses [B, X]`, float32 `numbers [B, 2 M]`, each where there are any.

    Outputs `logits [B, C]`. Two classes have one output z and the logits (0, z), so that the cross-entropy is the
    binary one; a regression's `[B, 1]` is in the target's own unit.
    """

    def __init__(self, net: WideAndDeep, *, spec: ModelSpec, task: str, binary: bool) -> None:
        super().__init__(net, spec=spec, task=task, head=("wide", "crosses", "line", "bias", "out"))
        assert isinstance(spec.input, TabularInput)
        self.binary = binary
        target = spec.input.target if task == "tabular-regression" else None
        self.scale, self.shift = (target.std, target.mean) if target is not None else (1.0, 0.0)

    def forward(
        self, categories: Tensor | None = None, crosses: Tensor | None = None, numbers: Tensor | None = None
    ) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.pooled("mean", categories, crosses, numbers)}
        net: Any = self.net
        logits = net(categories, crosses, numbers) * self.scale + self.shift
        return {"logits": torch.cat([torch.zeros_like(logits), logits], dim=1) if self.binary else logits}

    def pooled(
        self,
        pooling: str,
        categories: Tensor | None = None,
        crosses: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:
        """The deep part's last hidden layer; a row has one, so there is nothing to pool."""
        net: Any = self.net
        features: Tensor = net.features(categories, numbers)
        return features


def build(spec: ModelSpec, *, task: str, labels: tuple[str, ...], state: Mapping[str, Tensor] | None) -> ZooModule:
    if spec.architecture not in _ARCHITECTURES or task not in TASKS or not isinstance(spec.input, TabularInput):
        raise SpecError(
            f"The zoo's own networks are {', '.join(_ARCHITECTURES)}, over tables, for {', '.join(TASKS)}; "
            f"{spec.name} is {spec.architecture!r} for {task!r}."
        )
    binary = task == "tabular-classification" and len(labels) == 2
    outputs = 1 if binary or not labels or task != "tabular-classification" else len(labels)
    net = WideAndDeep(spec.input, outputs, _options(spec))
    module = TabularModule(net, spec=spec, task=task, binary=binary)
    if state is not None:
        module.fresh_head = load_into(net, state, is_head=module.in_head, where=spec.name)
    return module


def complete(spec: ModelSpec) -> ModelSpec:
    """With every option, so that later defaults change nothing in a saved model."""
    return spec.evolve(config=_options(spec))


def _options(spec: ModelSpec) -> dict[str, Any]:
    for name in spec.config:
        if name not in DEFAULTS:
            raise SpecError(
                f"{spec.name} has no option {name!r}.{suggest(name, DEFAULTS)} It has: {', '.join(DEFAULTS)}."
            )
    return {**DEFAULTS, **spec.config}
