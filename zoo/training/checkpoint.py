"""Checkpoints that are whole or absent, in the same sealed folders as saved models: see `zoo.bundle`."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from zoo import bundle, manifest
from zoo.errors import BundleError, CheckpointError, TrainingError
from zoo.plain import load_json

log = logging.getLogger("zoo.training")

_NAME = re.compile(r"step-(\d{8,})")
_NOTE = "checkpoint.json"
_FORMAT = 1
_KEPT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that was verified. meta: what was noted beside the tensors."""

    path: Path
    step: int
    meta: Mapping[str, Any]

    def load(self, name: str) -> Any:
        """What was saved as `name`: tensors and plain types, on the CPU."""
        return torch.load(self.path / f"{name}.pt", map_location="cpu", weights_only=True)


@final
class Checkpoints:
    """The folder of a run's checkpoints: the newest two and the best are kept.

    Processes write together: each its own parts, the main one the rest, the manifest and the rename.
    """

    def __init__(self, folder: Path, *, main: bool = True, everyone: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self._main = main
        self._everyone = everyone
        self._own: list[int] = []  # steps that this run has written or goes on from

    def write(
        self,
        step: int,
        parts: Mapping[str, Any],
        own_parts: Mapping[str, Any],
        meta: Mapping[str, Any],
        *,
        best: int | None = None,
    ) -> Path:
        """parts: written by the main process; own_parts: by each, under names of its own. best: a step to keep.

        Raises TrainingError when the disk refuses; what was there before is then still whole.
        """
        temporary = self.folder / f".writing-{step:08d}"
        target = self.folder / _name(step)
        try:
            if self._main:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            self._everyone()
            for name, value in {**own_parts, **(parts if self._main else {})}.items():
                _write_tensors(temporary / f"{name}.pt", value)
            self._everyone()
            if self._main:
                _write_note(temporary, step, meta)
                manifest.write(temporary)
                bundle.publish(temporary, target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise TrainingError(
                f"The checkpoint {target} could not be written: {error}. Free some space; resume=True goes on from the "
                "one before."
            ) from error
        self._own = [own for own in self._own if own != step] + [step]
        self._everyone()
        if self._main:
            self._prune(best)
        return target

    def newest(self, run: Mapping[str, Any]) -> Checkpoint | None:
        """The newest that verifies, or None. A damaged one is named in the log and the one before it is tried.

        Raises CheckpointError when it is of another run: other options, data or labels.
        """
        for step in sorted(self.steps(), reverse=True):
            path = self.folder / _name(step)
            try:
                found = verify(path)
            except CheckpointError as error:
                log.warning("%s The checkpoint before it is tried.", error)
                continue
            _same_run(path, found.meta.get("run", {}), run)
            self._own.append(step)
            return found
        return None

    def at(self, step: int) -> Checkpoint:
        """Raises CheckpointError when it is missing or damaged."""
        found = verify(self.folder / _name(step))
        self._own.insert(0, step)
        return found

    def steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def _prune(self, best: int | None) -> None:
        """Everything but the last two of this run and the best; checkpoints of an earlier run are replaced."""
        keep = {*self._own[-_KEPT:], *([] if best is None else [best])}
        killed = [path for path in self.folder.iterdir() if path.name.startswith(".")]
        for path in [*killed, *(self.folder / _name(step) for step in self.steps() if step not in keep)]:
            shutil.rmtree(path, ignore_errors=True)


def verify(path: Path) -> Checkpoint:
    """Every byte against the manifest. Raises CheckpointError."""
    try:
        manifest.verify(path)
        note = load_json((path / _NOTE).read_text(encoding="utf-8"))
        if note["format"] != _FORMAT:
            raise CheckpointError(f"The checkpoint {path} is of format {note['format']!r}, not {_FORMAT}.")
        return Checkpoint(path, note["step"], note["meta"])
    except CheckpointError:
        raise
    except (BundleError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}") from error


def _same_run(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = list(_differences(then, json.loads(json.dumps(now))))
    if differences:
        raise CheckpointError(
            f"The checkpoint {path} is of another run: {'; '.join(differences)}. Give the same options and data to go "
            "on with it, or resume=False or another output_dir to start afresh."
        )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*then, *now}):
        before, after = then.get(key), now.get(key)
        if before != after:
            yield f"{key} was {_short(before)} and is now {_short(after)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _write_tensors(path: Path, value: Any) -> None:
    torch.save(value, path)


def _write_note(folder: Path, step: int, meta: Mapping[str, Any]) -> None:
    text = json.dumps({"format": _FORMAT, "step": step, "meta": meta}, indent=1)
    (folder / _NOTE).write_text(text, encoding="utf-8")


def _name(step: int) -> str:
    return f"step-{step:08d}"
