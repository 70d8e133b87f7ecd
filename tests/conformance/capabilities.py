"""What one family of the catalogue can do, found by doing it at tiny size: the conformance tests' own verbs.

`export/catalogue.py` writes the table of docs/support.md with it; a test runs it on some families.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zoo
from tests.conformance.cases import CASES
from tests.conformance.conftest import tiny_model
from zoo.errors import ConfigError

METHODS = ("full", "head", "lora", "adalora", "ia3", "adapter", "prefix", "prompt")
YES, NO, NOTHING = "yes", "no", ""
"""It was done; it was refused by a ConfigError, as documented; the task is not for it. Anything else is raised."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One family and task.

    methods: of fine-tuning, each YES, NO or NOTHING. bf16: training in mixed precision, the same.
    difference, tolerance, agreement, cases: of the export's parity check. failure: why there was no export.
    """

    family: str
    task: str
    methods: dict[str, str]
    bf16: str
    difference: float = 0.0
    tolerance: float = 0.0
    agreement: float = 0.0
    cases: int = 0
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def capabilities(family: str, task: str, folder: Path) -> Capabilities:
    """Train a step with every method, and export what LoRA trained (or all of it, where LoRA can't be)."""
    found = {method: train(family, task, method, folder)[1] for method in METHODS}
    bf16 = train(family, task, "full", folder, precision="bf16")[1]
    model = train(family, task, "lora", folder)[0] or tiny_model(family, task)
    try:
        parity = model.export(folder / f"{family}-{task}.bundle").card.parity
    except zoo.ZooError as error:
        return Capabilities(family, task, found, bf16, failure=str(error).splitlines()[0])
    assert parity is not None
    figures = (parity.max_abs_difference, parity.tolerance, parity.agreement, parity.cases)
    return Capabilities(family, task, found, bf16, *figures)


def train(
    family: str, task: str, method: str, folder: Path, *, precision: str = "fp32"
) -> tuple[zoo.Model | None, str]:
    """A model after one step, and YES; None and NO where the method is refused; None and NOTHING without targets."""
    case = CASES[task]
    if case.rows is None:
        return None, NOTHING
    model = tiny_model(family, task)
    options = {"max_steps": 1, "batch_size": 3, "learning_rate": 1e-3, "progress": False, "lint": False, **case.step}
    try:
        model.finetune(
            case.rows(model.task), None, method=method, precision=precision, output_dir=folder / "run", **options
        )
    except ConfigError:
        return None, NO
    loss = model.history[-1]["train_loss"]
    if not math.isfinite(loss):
        raise AssertionError(f"{family}, {task}, {method}, {precision}: the loss is {loss}")
    return model, YES
