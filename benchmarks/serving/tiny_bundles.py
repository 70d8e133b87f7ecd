"""Tiny bundles of random weights for a server under load: what is under test is the server, not its models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from tests.conformance.cases import labels_for
from tests.tiny import settle, tiny

if TYPE_CHECKING:
    import torch

MODELS = {
    "mood": ("bert-base-uncased", "text-classification"),
    "tagger": ("bert-base-cased", "token-classification"),
    "animals": ("resnet18", "image-classification"),
    "speech": ("wav2vec2-base-960h", "automatic-speech-recognition"),
    "writer": ("gpt2", "text-generation"),
}
EXCHANGED = "mood"


def make(folder: Path) -> None:
    """`{name}.bundle` of each that is not there; `other/mood.bundle`, of other weights, so with other answers."""
    for name in MODELS:
        if not (folder / f"{name}.bundle").exists():
            export(name, folder / f"{name}.bundle")
    export(EXCHANGED, folder / "other" / f"{EXCHANGED}.bundle", seed=1)
    shutil.copytree(folder / f"{EXCHANGED}.bundle", folder / "first" / f"{EXCHANGED}.bundle")


def export(name: str, path: Path, seed: int = 0) -> None:
    model, task = MODELS[name]
    spec = tiny(zoo.info(model))
    labels = labels_for(task, spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = settle(zoo.load(spec, task=task, labels=labels, weights=None, device="cpu", seed=seed))
    if spec.modality == "text":
        _widen(made.module)
    made.export(path)


def _widen(module: torch.nn.Module) -> None:
    """Small random weights answer all texts alike, so that the answer of another's would pass for the right one."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8.0)


def exchange(folder: Path, version: int) -> None:
    """Put the bundle of a version (even: the first, odd: the other) where the server looks for it."""
    place = folder / f"{EXCHANGED}.bundle"
    fresh = shutil.copytree(folder / ("other" if version % 2 else "first") / place.name, folder / "fresh.bundle")
    os.rename(place, folder / "gone.bundle")
    os.rename(fresh, place)
    shutil.rmtree(folder / "gone.bundle")
