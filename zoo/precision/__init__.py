"""A bundle in less than fp32: measured on the user's data against fp32, and refused where it is worse or no faster."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import bundle, exporting, report_card
from zoo.errors import ConfigError, DeviceError, QualityError
from zoo.precision.deciding import Kept, Wanted, decide
from zoo.precision.source import Source, opset_of, write
from zoo.precision.telling import explain
from zoo.precision.ways import PRECISIONS, check
from zoo.predictor import Predictor
from zoo.runtime import BundleModel
from zoo.runtime import load as load_bundle
from zoo.training.data import Rows, split
from zoo.training.data.splits import has_labels

if TYPE_CHECKING:
    from zoo.backends.module import ZooModule

__all__ = ["PRECISIONS", "Wanted", "check", "explain", "export", "parts", "supported"]


def supported(reference: Predictor, module: ZooModule, max_drop: float, device: str) -> None:
    """Raises ConfigError for what can't be reduced or judged, before any work is done."""
    graphs: dict[str, str] = getattr(module, "graphs", {})
    if graphs:
        raise ConfigError(
            f"{reference.spec.name} is exported as several graphs ({', '.join(graphs)}), and a reduced "
            'precision is made of one. Leave precision= at "fp32".'
        )
    if not (reference.task.trainable and reference.task.metric):
        raise ConfigError(
            f"{reference.task.name} has no metric that a reduced precision could be judged by. "
            'Leave precision= at "fp32".'
        )
    if not 0 <= max_drop < 1:
        raise ConfigError(f"max_drop is {max_drop!r}; give the allowed drop of the metric, such as 0.01 for a point.")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f'runs_on is {device!r}; a bundle is measured on "cpu" or "cuda".')


def parts(rows: Rows) -> tuple[Rows, Rows]:
    """Labelled rows as (calibration, test): halves, stratified where a row has one label; the same each time."""
    stratify = has_labels(rows.task) and rows.target_role != "value"
    return split(rows, 0.5, seed=0, stratify=stratify)


def export(
    reference: Predictor,
    module: ZooModule,
    target: str | Path,
    wanted: Wanted,
    *,
    samples: Sequence[Any] | None = None,
    tolerance: float = 1e-4,
) -> BundleModel:
    """Write a bundle of the wanted precision and return it, opened on the CPU. Arguments as of `exporting.export`.

    Raises QualityError, leaving no bundle behind, where it loses more than allowed or is no faster than fp32;
    DeviceError where the provider can't run the precision; ParityError where the fp32 graph differs from torch.
    """
    check(wanted.precision)
    with bundle.writing(target) as folder, tempfile.TemporaryDirectory(prefix="zoo-precision-") as work:
        card = exporting.fill(reference, module, folder, samples=samples, tolerance=tolerance)
        reference_bundle = load_bundle(folder, device=wanted.device, packed=True, verify=False)
        kept = decide(reference_bundle, Source(folder / bundle.GRAPH), wanted, Path(work))
        if kept.unsupported is not None:
            raise DeviceError(kept.unsupported)
        if not kept.quality.passed:
            raise QualityError(explain(kept.quality), report=kept.quality)
        _put(kept, folder, card)
    # Hashed a moment ago, when its manifest was written.
    return load_bundle(target, verify=False)


def _put(kept: Kept, folder: Path, card: bundle.Card) -> None:
    """The graph that was kept in place of the fp32 one."""
    assert card.export is not None
    made = card.export
    if kept.model is not None:
        model = kept.model()
        for old in folder.glob(f"{bundle.GRAPH}*"):
            old.unlink()
        write(model, folder / bundle.GRAPH)
        opset = opset_of(folder / bundle.GRAPH)
        made = made.model_copy(update={"precision": kept.precision, "opset": opset})
    bundle.write_card(folder, card.model_copy(update={"export": made, "quality": kept.quality}))
    report_card.write(folder)
