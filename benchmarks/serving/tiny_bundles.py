"""Tiny bundles of random weights for a server under load: what is under test is the server, not its models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import zoo
from tests.conformance.cases import labels_for
from tests.tiny import settle, tiny, widen

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
    (widen(made) if spec.modality == "text" else made).export(path)


def exchange(folder: Path, version: int) -> None:
    """Put the bundle of a version (even: the first, odd: the other) where the server looks for it."""
    place = folder / f"{EXCHANGED}.bundle"
    fresh = shutil.copytree(folder / ("other" if version % 2 else "first") / place.name, folder / "fresh.bundle")
    os.rename(place, folder / "gone.bundle")
    os.rename(fresh, place)
    shutil.rmtree(folder / "gone.bundle")
