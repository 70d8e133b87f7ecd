"""What a search found: its trials, the best one, a table and a plot."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zoo.errors import TrainingError

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One fine-tuning. options: what the space gave. value: the metric of its best epoch, None where there is none.

    state: "complete", "pruned" (stopped early, because others did better) or "failed" (`error` says why).
    epochs: the metric after each epoch. seconds: that it took.
    """

    number: int
    options: Mapping[str, Any]
    value: float | None
    state: State
    epochs: tuple[float, ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Study:
    """A search. metric: of the validation data. fixed: the options that were the same in every trial."""

    metric: str
    higher_is_better: bool
    trials: tuple[Trial, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Trial:
        """The complete trial with the best value; `model.finetune(train, **study.best.options)` repeats it.

        Raises TrainingError when none is complete.
        """
        done = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        if not done:
            reasons = "; ".join(dict.fromkeys(trial.error for trial in self.trials if trial.error))
            raise TrainingError(f"None of the {len(self.trials)} trials is complete. {reasons}".strip())
        return (max if self.higher_is_better else min)(done, key=lambda trial: trial.value or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "fixed": dict(self.fixed),
            "trials": [{**dataclasses.asdict(trial), "options": dict(trial.options)} for trial in self.trials],
        }

    def plot(self, path: str | Path) -> Path:
        """Draw the trials in their order and over each option, to a PNG, SVG or PDF by the path's ending."""
        from zoo.training.search.plot import save

        return save(self, Path(path))

    def __str__(self) -> str:
        ranked = sorted(self.trials, key=self._rank)
        lines = [f"{'trial':>5}  {self.metric[:12]:>12}  {'state':<8}  options"]
        for trial in ranked:
            value = f"{trial.value:.4f}" if trial.value is not None else "-"
            shown = ", ".join(f"{name}={_short(chosen)}" for name, chosen in trial.options.items())
            line = f"{trial.number:>5}  {value:>12}  {trial.state:<8}  {shown}"
            lines.append(textwrap.fill(line, 80, subsequent_indent=" " * 31, break_long_words=False))
        return "\n".join(lines)

    def _rank(self, trial: Trial) -> tuple[bool, float]:
        """The best first; what was stopped comes after what is complete."""
        value = trial.value if trial.value is not None else float("-inf" if self.higher_is_better else "inf")
        return trial.state != "complete", -value if self.higher_is_better else value


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
