"""A bundle in less than fp32: measured on the user's data against fp32, and refused where it is worse or no faster."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from zoo import bundle, exporting, manifest, report_card
from zoo.errors import ConfigError, DeviceError, QualityError
from zoo.precision import likeness
from zoo.precision.deciding import Kept, Wanted, decide
from zoo.precision.graphs import contract, files_of, weights_of
from zoo.precision.source import opset_of
from zoo.precision.telling import explain
from zoo.precision.ways import PRECISIONS, check
from zoo.predictor import Predictor
from zoo.runtime import BundleModel
from zoo.runtime import load as load_bundle
from zoo.tasks.feature_extraction import FeatureExtraction
from zoo.training.data import Rows, split
from zoo.training.data.splits import has_labels

if TYPE_CHECKING:
    from zoo.backends.module import ZooModule

__all__ = ["PRECISIONS", "Wanted", "again", "check", "explain", "export", "parts", "read", "supported"]


def supported(reference: Predictor, max_drop: float, device: str) -> None:
    """Raises ConfigError for what can't be reduced or judged, before any work is done."""
    task = reference.task
    if not isinstance(task, FeatureExtraction) and not (task.trainable and task.metric):
        raise ConfigError(
            f'{task.name} has no metric that a reduced precision could be judged by. Leave precision= at "fp32".'
        )
    if not 0 <= max_drop < 1:
        raise ConfigError(f"max_drop is {max_drop!r}; give the allowed drop of the metric, such as 0.01 for a point.")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f'runs_on is {device!r}; a bundle is measured on "cpu" or "cuda".')


def read(model: Predictor, given: Any, columns: Mapping[str, str] | None) -> Rows | None:
    """Rows of a task that needs no labels to be judged; None for any other, whose rows are those of `evaluate`."""
    return likeness.inputs(model, given, columns) if isinstance(model.task, FeatureExtraction) else None


def parts(rows: Rows) -> tuple[Rows, Rows]:
    """Rows as (calibration, test): halves, stratified where a row has one label; the same each time."""
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
    draft: bool = False,
) -> BundleModel:
    """Write a bundle of the wanted precision and return it, opened on the CPU. Arguments as of `exporting.export`.

    Raises QualityError, leaving no bundle behind, where it loses more than allowed or is no faster than fp32;
    DeviceError where the provider can't run the precision; ParityError where the fp32 graph differs from torch.
    """
    check(wanted.precision)
    with bundle.writing(target) as folder:
        card = exporting.fill(reference, module, folder, samples=samples, tolerance=tolerance, draft=draft)
        _reduce(folder, card, wanted)
    # Hashed a moment ago, when its manifest was written.
    return load_bundle(target, verify=False)


def again(source: Path, target: str | Path, wanted: Wanted) -> BundleModel:
    """Write a bundle of the wanted precision from one in fp32, which stays as it is, and return it, opened on the CPU.

    No torch is needed: the reference is the bundle itself, and its parity goes with it.
    Raises QualityError and DeviceError, as `export`; ConfigError for a bundle in less than fp32 already.
    """
    check(wanted.precision)
    with bundle.writing(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, symlinks=True)
        # What is here cannot change any more between the check and the work.
        manifest.verify(folder)
        for name in manifest.OWN:
            (folder / name).unlink(missing_ok=True)
        card = bundle.read_card(folder)
        if card.export is None or card.export.precision != "fp32":
            made = card.export.precision if card.export else "no known precision"
            raise ConfigError(f"{source} is in {made}; give the bundle in fp32 to reduce.")
        _reduce(folder, card, wanted)
    return load_bundle(target, verify=False)


def _reduce(folder: Path, card: bundle.Card, wanted: Wanted) -> None:
    """The bundle that lies in a folder, in fp32 and without a manifest, in the precision that is wanted."""
    with tempfile.TemporaryDirectory(prefix="zoo-precision-") as work:
        kept = decide(load_bundle(folder, device=wanted.device, packed=True, verify=False), wanted, Path(work))
        if kept.unsupported is not None:
            raise DeviceError(kept.unsupported)
        if not kept.quality.passed:
            raise QualityError(explain(kept.quality), report=kept.quality)
        _put(kept, folder, card)


def _put(kept: Kept, folder: Path, card: bundle.Card) -> None:
    """The graphs that were kept in place of those of fp32."""
    assert card.export is not None
    made = card.export
    if kept.folder is not None:
        for old in weights_of(folder, card):
            old.unlink()
        for path in kept.folder.iterdir():
            shutil.copyfile(path, folder / path.name)
        opset = opset_of(folder / next(iter(files_of(card).values())))
        card = contract(card, folder)
        made = structs.replace(made, precision=kept.precision, opset=opset)
    bundle.write_card(folder, structs.replace(card, export=made, quality=kept.quality))
    report_card.write(folder)
