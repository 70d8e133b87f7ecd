"""A study as a plot: the trials in their order, and the metric over each option. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, missing
from zoo.training.search.study import Study, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = (".png", ".svg", ".pdf")
_COLOURS = {"complete": "#1f6f8b", "pruned": "#d9a441", "failed": "#d1495b"}


def save(study: Study, path: Path) -> Path:
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"A plot is written as {', '.join(_FORMATS)}, not {path.suffix or 'without an ending'!r}.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("matplotlib", "train", "Plotting a study") from error
    names = list(dict.fromkeys(name for trial in study.trials for name in trial.options))
    figure = Figure(figsize=(4.2 * (1 + len(names)), 3.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    _course(axes[0], study)
    for place, name in zip(axes[1:], names, strict=True):
        _over(place, study, name)
    figure.savefig(path, bbox_inches="tight")
    return path


def _course(axes: Axes, study: Study) -> None:
    from matplotlib.ticker import MaxNLocator

    _scatter(axes, study, [(trial.number + 1, trial) for trial in study.trials])
    best: list[float] = []
    numbers = []
    for trial in study.trials:
        if trial.state == "complete" and trial.value is not None:
            best.append((max if study.higher_is_better else min)([*best[-1:], trial.value]))
            numbers.append(trial.number + 1)
    axes.step(numbers, best, where="post", color="#333333", linewidth=1, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(study.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)


def _over(axes: Axes, study: Study, name: str) -> None:
    values = [trial.options[name] for trial in study.trials if name in trial.options]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    trials = [trial for trial in study.trials if name in trial.options]
    if numeric:
        _scatter(axes, study, [(trial.options[name], trial) for trial in trials])
        if min(values) > 0 and max(values) / min(values) >= 10:
            axes.set_xscale("log")
    else:
        places = {text: i for i, text in enumerate(dict.fromkeys(str(value) for value in values))}
        _scatter(axes, study, [(places[str(trial.options[name])], trial) for trial in trials])
        axes.set_xticks(list(places.values()), list(places), rotation=30 if len(places) > 3 else 0)
        axes.margins(x=0.2)
    axes.set_xlabel(name)


def _scatter(axes: Any, study: Study, points: list[tuple[float, Trial]]) -> None:
    for state, colour in _COLOURS.items():
        chosen = [(x, t.value) for x, t in points if t.state == state and t.value is not None]
        if chosen:
            axes.scatter(*zip(*chosen, strict=True), s=22, color=colour, label=state, zorder=3)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
