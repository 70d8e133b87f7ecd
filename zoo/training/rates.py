"""Learning rates where none is given: by what is trained, and by the optimiser."""

from __future__ import annotations

from zoo.training.config import TrainConfig

# AdamW's when everything is trained, by the kind of input.
_FULL = {"text": 5e-5, "audio": 5e-5, "mel": 2e-5, "image": 1e-4, "tabular": 1e-3}
_FULL_SGD = {"text": 1e-3, "audio": 1e-3, "mel": 1e-3, "image": 1e-2, "tabular": 1e-2}
# AdamW's by the method else, of the order that its paper or peft's examples use.
_METHODS = {
    "head": 1e-3, "lora": 5e-4, "adalora": 1e-3, "adapter": 5e-4, "ia3": 5e-3, "prefix": 5e-3, "prompt": 3e-2,
    "peft": 5e-4,
}  # fmt: skip
# To AdamW's. Adagrad's steps shrink with all that came before, Lion's are of one size and all signs. Muon's are
# matched to AdamW's.
_FACTORS = {"sgd": 10.0, "adagrad": 10.0, "lion": 0.3}
# Beside parts whose rate is higher than a head likes.
_HEAD_MOST = 1e-3


def learning_rate(config: TrainConfig, kind: str) -> float:
    """The body's peak rate. kind: of the model's input."""
    if config.learning_rate is not None:
        return config.learning_rate
    if config.method == "full":
        if config.optimizer == "sgd":
            return _FULL_SGD.get(kind, _FULL_SGD["text"])
        return _FULL.get(kind, _FULL["text"]) * _factor(config)
    return _METHODS[config.method if isinstance(config.method, str) else "peft"] * _factor(config)


def head_learning_rate(config: TrainConfig, kind: str) -> float:
    if config.head_learning_rate is not None:
        return config.head_learning_rate
    rate = learning_rate(config, kind)
    if config.learning_rate is None and config.method in ("ia3", "prefix", "prompt"):
        rate = min(rate, _HEAD_MOST * _factor(config))
    return rate * config.head_lr_scale


def _factor(config: TrainConfig) -> float:
    return _FACTORS.get(config.optimizer, 1.0)
