"""Every family of the catalogue at a size that builds and runs in a moment, for tests.

    tiny(catalog.info("bert-base-cased"))   # the same family, tasks and labels; 2 layers of width 32

What makes a family small stands beside this file, in a folder a backend, in any of its YAML files.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.inference import make_batch
from zoo.plain import load_yaml
from zoo.spec import ModelSpec


def tiny(spec: ModelSpec) -> ModelSpec:
    """The spec at a tiny size: valid, of the same family, tasks and labels, without pretrained weights."""
    small = _sizes(spec.backend)[size_of(spec)]
    decoder = {"decoder": {**spec.decoder.to_dict(), **small.get("decoder", {})}} if spec.decoder else {}
    return spec.evolve(
        **decoder,
        config={**spec.config, **small.get("config", {})},
        input={**spec.input.to_dict(), **small["input"]},
        weights=None,
        parameters=None,
    )


_NEXT_TO_NOTHING = 0.01  # what a network's layers are scaled by at first, so that it learns to use them


def settle(model: zoo.Model, images: int = 48) -> zoo.Model:
    """Give batch norms the statistics of some images.

    At random weights they hold none, and a deep network's outputs explode or vanish: a comparison of such outputs
    would find nothing.
    """
    from torch import nn, no_grad

    norms = [part for part in model.module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms or model.spec.modality != "vision":
        return model
    rng = np.random.default_rng(1)
    raws = [np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(images)]
    windows = [model.task.encode(model.encoder, raw)[0] for raw in raws]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with no_grad():
        model.forward(make_batch(model.encoder, model.task, windows))
    for norm in norms:
        norm.momentum = 0.1
        norm.eval()
    return model


def widen(model: zoo.Model, factor: float = 8.0) -> zoo.Model:
    """Larger matrices, and layers that count, so that answers depend on what was read.

    At small random weights a classifier gives all texts the same scores to a ten-thousandth, and one that ignores its
    mask, or answers another text, would pass for the right one. A backbone that `settle` saw to stays.
    """
    from torch import no_grad

    with no_grad():
        for name, parameter in model.module.named_parameters():
            if parameter.dim() > 1 and "backbone" not in name:
                parameter.mul_(factor)
            elif parameter.dim() == 1 and 0 < parameter.abs().max() < _NEXT_TO_NOTHING:
                parameter.fill_(1.0)
    return model


def family(spec: ModelSpec) -> str:
    """What models of one family share: their code, and for speech the norm of their feature extractor."""
    norm = spec.config.get("feat_extract_norm")
    head = "xvector" if spec.embedding.pooling == "xvector" else None
    return "-".join(filter(None, (size_of(spec), norm, head)))


def size_of(spec: ModelSpec) -> str:
    """The key of the tiny sizes that fits a spec: the longest one that its architecture starts with."""
    name = spec.architecture.removeprefix("tf_").replace("resnext", "resnet")
    backbone = spec.config.get("backbone_config")
    if backbone:
        name = f"{name}-{backbone['model_type']}"
    if getattr(spec.input, "layout", None) == "clap-fusion":
        name = "clap-fusion"
    fitting = [key for key in _sizes(spec.backend) if name.startswith(key)]
    if not fitting:
        raise LookupError(f"{spec.name}: no tiny size for {spec.architecture!r}; add one to tests/tiny/{spec.backend}/")
    return max(fitting, key=len)


@cache
def _sizes(backend: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(Path(__file__).with_name(backend).glob("*.yaml")):
        for key, size in load_yaml(path.read_text(encoding="utf-8"), where=str(path)).items():
            assert key not in found, f"{path}: {key} is in another file too"
            found[key] = size
    return found


def _one_of_each() -> tuple[str, ...]:
    found: dict[str, str] = {}
    # A family's sentence encoders and discriminators can do less than its language models.
    for name in sorted(zoo.list_models(), key=lambda name: -len(zoo.info(name).tasks)):
        found.setdefault(family(zoo.info(name)), name)
    return tuple(sorted(found.values()))


FAMILIES = _one_of_each()
"""One catalogue name of each family: the first by name of those that can do most."""


def without_dropout(module: Any) -> None:
    """Set every share that a torch module drops in training to nought."""
    for part in module.modules():
        # Layers of dropout, and attentions, which name theirs in as many ways as there are architectures.
        for share in ("p", "dropout", "dropout_prob", "attn_dropout", "layerdrop"):
            if isinstance(getattr(part, share, None), float):
                setattr(part, share, 0.0)
