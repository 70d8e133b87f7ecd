"""A spec as a torch module: the one door to timm, torchvision, transformers and torchaudio.

Each upstream library is imported when its first model is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.errors import missing
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.backends.module import ZooModule


def build(
    spec: ModelSpec,
    *,
    task: str,
    labels: tuple[str, ...],
    state: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
) -> ZooModule:
    """The network of a spec with a head for `task`, on the CPU, float32, in eval mode.

    labels: of the task, in the order of the logits; their number is the head's size.
    state: a checkpoint's tensors; the body's must be complete, the head's are taken when their shapes
        fit (`module.fresh_head` says whether they were). None gives random weights and touches no network.
    seed: of the random weights; the global generator is then left as it was.
    Raises UnknownModel, SpecError or MissingDependency.
    """
    backend = _backend(spec.backend)
    with _seeded(seed):
        module: ZooModule = backend.build(spec, task=task, labels=labels, state=state)
    return module.eval()


def _backend(name: str) -> Any:
    try:
        return importlib.import_module(f"zoo.backends.{name}")
    except ImportError as error:
        raise missing(error.name or name, "train", f"A model of {name}") from error


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
