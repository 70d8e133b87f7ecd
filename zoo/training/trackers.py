"""A run in TensorBoard, Weights & Biases or MLflow, by accelerate's trackers: numbers, and the report at the end."""

from __future__ import annotations

import importlib.util
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from zoo.errors import missing
from zoo.modalities.base import Array
from zoo.report import ClassScore, Report
from zoo.training.watch import StepLoss

_MODULES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
_EXTRAS = {"tensorboard": "train", "wandb": "wandb", "mlflow": "mlflow"}
_EVERY = 10  # steps


def check_installed(names: tuple[str, ...]) -> None:
    """Raise MissingDependency for a tracker that is not there: accelerate would leave it out without a word."""
    for name in names:
        if importlib.util.find_spec(_MODULES[name]) is None:
            raise missing(_MODULES[name], _EXTRAS[name], f'log=["{name}"]')


@final
class Trackers:
    """The loss and the rate of every tenth step, each epoch's record, and the report of the best epoch.

    folder: where what is kept on this machine goes: TensorBoard's events, an offline run of Weights & Biases, and
    MLflow's database where MLFLOW_TRACKING_URI names no server.
    """

    def __init__(
        self, accelerator: Any, name: str, options: Mapping[str, Any], folder: Path | None, *, on: bool
    ) -> None:
        self._accelerator = accelerator
        self._on = on
        if on:
            # What a tracker can't hold as a number or a text is shown as it prints.
            plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in options.items()}
            accelerator.init_trackers(name, config=plain, init_kwargs=_where(options["log"], folder))

    def step(self, seen: StepLoss) -> None:
        if self._on and seen.note.step % _EVERY == 0:
            self._accelerator.log({"train/loss": seen.mean, "train/learning_rate": seen.note.rate}, step=seen.note.step)

    def epoch(self, record: Mapping[str, Any]) -> None:
        if self._on:
            values = {f"epoch/{name}": value for name, value in record.items() if name not in ("step", "skipped")}
            self._accelerator.log(values, step=record["step"])

    def report(self, report: Report | None, step: int) -> None:
        """Tables of the classes' scores and the plots, as each tracker shows them."""
        if not self._on or report is None or not self._accelerator.is_main_process:
            return
        for tracker in self._accelerator.trackers:
            _REPORTS[tracker.name](tracker, report, step)

    def close(self) -> None:
        if self._on:
            # Not end_training(), which would also end the group of processes.
            for tracker in self._accelerator.trackers:
                tracker.finish()


def _where(names: tuple[str, ...], folder: Path | None) -> dict[str, dict[str, Any]]:
    """What accelerate gives each tracker when it starts."""
    assert folder is not None, "log needs output_dir"
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, dict[str, Any]] = {}
    if "wandb" in names:
        options["wandb"] = {"dir": str(folder)}
    if "mlflow" in names:
        options["mlflow"] = {"logging_dir": _mlflow_store(folder)}
    return options


def _mlflow_store(folder: Path) -> str | None:
    """A database and a folder of artefacts in `folder`, unless the user has said where; then None."""
    import mlflow

    if os.environ.get("MLFLOW_TRACKING_URI") or mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]
        return None
    mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    return (folder / "mlflow").resolve().as_uri()


def _tensorboard(tracker: Any, report: Report, step: int) -> None:
    for title, rows in _tables(report).items():
        head = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines = [*head, *("| " + " | ".join(map(str, row)) + " |" for row in rows[1:])]
        tracker.tracker.add_text(f"report/{title}", "\n".join(lines), global_step=step)
    for title, pixels in _plots(report).items():
        tracker.log_images({f"report/{title}": pixels[None]}, step=step, dataformats="NHWC")


def _wandb(tracker: Any, report: Report, step: int) -> None:
    for title, rows in _tables(report).items():
        tracker.log_table(f"report/{title}", columns=rows[0], data=rows[1:], step=step)
    tracker.log_images({f"report/{title}": [pixels] for title, pixels in _plots(report).items()}, step=step)


def _mlflow(tracker: Any, report: Report, step: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tracker.log_artifact(str(report.to_html(Path(folder) / "report.html")))
        tracker.log_artifact(str(report.plot(Path(folder) / "report.png")))


_REPORTS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def _tables(report: Report) -> dict[str, list[list[Any]]]:
    """Titled tables, the first row of each its columns."""
    head = ["label", "precision", "recall", "f1", "support"]
    found = {"labels": report.per_class, "entities": report.entities}
    return {title: [head, *map(_row, scores)] for title, scores in found.items() if scores}


def _row(score: ClassScore) -> list[Any]:
    return [score.label, round(score.precision, 4), round(score.recall, 4), round(score.f1, 4), score.support]


def _plots(report: Report) -> dict[str, Array]:
    """Titled pictures, uint8 `[H, W, 3]`."""
    from PIL import Image

    from zoo.report_plots import drawn

    return {title: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for title, data in drawn(report).items()}
