"""A small world to train in: rows, real encoders and tasks, and real tiny networks of the backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.tiny import tiny
from zoo import backends, catalog
from zoo import tasks as zoo_tasks
from zoo.modalities import make_encoder
from zoo.modalities.base import Encoder
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.spec import ModelSpec
from zoo.tasks.base import Task
from zoo.training import TrainConfig
from zoo.training.data.rows import Row, Rows, Source


class Listed(Source):
    """Rows as they are."""

    columns = ("input", "target")

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, index: int) -> str:
        return self.rows[index].where

    def row(self, index: int) -> Row:
        return self.rows[index]

    def targets(self, places: Any = None) -> list[Any]:
        return [self.rows[int(i)].target for i in (range(len(self.rows)) if places is None else places)]

    def faults(self) -> Any:
        return iter(())


@dataclass
class World:
    module: nn.Module
    task: Task
    encoder: Encoder
    rows: list[Row]
    val: list[Row]

    @property
    def train(self) -> Rows:
        return Rows(Listed(self.rows), self.task.name)

    @property
    def held_out(self) -> Rows:
        return Rows(Listed(self.val), self.task.name)


def make_rows(pairs: Any, name: str = "rows") -> list[Row]:
    return [Row(given, target, f"{name}[{number}]") for number, (given, target) in enumerate(pairs)]


WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima")


def bert_spec(dropout: float = 0.0, layers: int | None = None) -> ModelSpec:
    spec = tiny(catalog.info("bert-base-cased"))
    config = {
        **spec.config, "vocab_size": 300, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
        "num_hidden_layers": layers or spec.config["num_hidden_layers"],
    }  # fmt: skip
    return spec.evolve(config=config)


def text_world(
    task: str = "text-classification",
    *,
    rows: int = 40,
    dropout: float = 0.0,
    layers: int | None = None,
    seed: int = 0,
) -> World:
    """Ragged texts of 1 to 12 words; the label or tags depend on the words."""
    random = np.random.default_rng(seed)
    texts = [random.choice(WORDS, random.integers(1, 13)).tolist() for _ in range(rows + 12)]
    if task == "token-classification":
        labels: tuple[str, ...] = ("O", "B-A", "I-A")
        pairs = [(text, ["B-A" if word < "d" else "O" for word in text]) for text in texts]
    elif task == "text-classification":
        labels = ("few", "many")
        pairs = [(" ".join(text), labels[int("alpha" in text)]) for text in texts]
    else:
        labels, pairs = (), [(" ".join(text), " ".join(text)) for text in texts]
    return make_world(bert_spec(dropout, layers), task, labels, pairs[:rows], pairs[rows:], seed=seed)


def make_world(spec: ModelSpec, task: str, labels: tuple[str, ...], pairs: Any, val: Any, *, seed: int = 0) -> World:
    tokenizer = byte_tokenizer(style="bert") if spec.input.kind == "text" else None
    module = backends.build(spec, task=task, labels=labels, seed=seed)
    encoder = make_encoder(spec, tokenizer=tokenizer)
    made = zoo_tasks.make(task, spec, labels)
    return World(module, made, encoder, make_rows(pairs), make_rows(val, "val"))


def run(world: World, *, val: bool = True, **options: Any) -> tuple[list[dict[str, Any]], list[float]]:
    """Train; the history, and the loss of every step."""
    from zoo.training.fitting import train

    on_epoch, on_step = options.pop("on_epoch", None), options.pop("on_step", None)
    losses: list[float] = []

    def step(seen: Any) -> None:
        losses.append(seen.mean)
        if on_step is not None:
            on_step(seen)

    config = TrainConfig(**{"progress": False, **options})
    history = train(
        world.module, world.task, world.encoder, world.train, world.held_out if val else None, config,
        on_epoch=on_epoch, on_step=step,
    )  # fmt: skip
    return history, losses


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel())


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what a clock decides."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "samples_per_second")} for record in history]
