"""What every work is given, and what several of them need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contestant


@dataclass(frozen=True, slots=True)
class Setting:
    """folder: for checkpoints, bundles and inputs. quick: tiny networks and few items. device: "cpu" or "cuda".

    peers, servers: the Python of benchmarks/speed/requirements.txt, and of benchmarks/serving/requirements.txt, for
    peers that have versions of their own.
    """

    folder: Path
    quick: bool = False
    device: str = "cpu"
    peers: Path | None = None
    servers: Path | None = None

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def kept(self, name: str, inputs: Sequence[Any]) -> str:
        """A file of inputs, for arguments: a command line is not long enough for them."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps([str(item) if isinstance(item, Path) else item for item in inputs]), "utf-8")
        return str(path)


def read(path: str) -> Any:
    """What `Setting.kept` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def export(
    model: Any,
    path: Path,
    precision: str = "fp32",
    texts: Sequence[Any] = (),
    *,
    runs_on: str = "cpu",
    source: Path | None = None,
) -> str:
    """Write a bundle of a `zoo.Model`; why there is none, where it is refused, else nothing.

    texts: inputs of any kind, for less than fp32, which is made with the model's own answers as labels. Random weights
    know nothing, so that a drop is allowed; how far its answers are from the reference's is written down.
    runs_on: the device that it is measured on. source: the model's bundle in fp32, where there is one to reduce.
    """
    import zoo

    try:
        if precision == "fp32":
            model.export(path)
        else:
            rows = _labelled(model, texts)
            zoo.export(
                source or model, path, precision=precision, calibration=rows, max_drop=0.99,
                runs_on=runs_on,  # type: ignore[arg-type]
            )  # fmt: skip
    except (zoo.QualityError, zoo.ConfigError, zoo.DeviceError) as error:
        return " ".join(str(error).split())[:300]
    return ""


def exported(
    setting: Setting, model: Any, inputs: Sequence[Any], precisions: Sequence[str] = ("fp32", "fp16", "int8")
) -> dict[str, tuple[Path, str]]:
    """A bundle in each precision, measured where it will answer: its folder and why there is none, as `bundles` takes
    them. inputs: as texts of `export`. precisions: fp32 first."""
    made: dict[str, tuple[Path, str]] = {}
    for precision in precisions:
        path = setting.folder / f"{precision}.bundle"
        source, refused = made.get("fp32", (None, ""))
        reason = refused or export(model, path, precision, inputs, runs_on=setting.device, source=source)
        made[precision] = (path, reason)
    return made


def _labelled(model: Any, inputs: Sequence[Any]) -> list[Any]:
    if model.task.name == "text-generation":
        return [{"text": text} for text in inputs]
    found = model.predict(list(inputs))
    return [(raw, getattr(item, "label", None) or item.text) for raw, item in zip(inputs, found, strict=True)]


def bundles(start: str, arguments: Mapping[str, Any], made: Mapping[str, tuple[Path, str]]) -> list[Contestant]:
    """A contestant for each bundle. made: its folder and why there is none, by precision."""
    return [
        Contestant(
            f"zoo, bundle {precision}", start, {**arguments, "folder": str(path)}, ours=True, left_out=reason,
            tolerance=1e-3 if precision == "fp32" else None,
        )
        for precision, (path, reason) in made.items()
    ]  # fmt: skip


def torch_dtype(precision: str) -> Any:
    """What transformers calls dtype. precision: "fp32" or "bf16"."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def compiled(start: str, arguments: Mapping[str, Any], setting: Setting) -> Contestant:
    slow = setting.quick or setting.device == "cpu"
    reason = "the compiler takes minutes on a CPU, longer than all of the run" if slow else ""
    return Contestant("zoo, torch compiled", start, {**arguments, "compiled": True}, ours=True, left_out=reason)


def of_labels(
    found: Sequence[Mapping[str, float]], names: Sequence[str], figures: Mapping[str, float] | None = None
) -> Answer:
    """Of scores by label."""
    best = [max(item, key=item.__getitem__) for item in found]
    return Answer(best, [[item[name] for name in names] for item in found], figures or {})
