"""Does the bundle answer as torch does? From raw inputs to final results, over batches of ragged rows.

The reference answers one input at a time, so that nothing is padded; the bundle answers the same inputs
in batches of several sizes, padded to their longest. A mask lost on the way, or padding that leaks into
a statistic, shows as a difference here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import structs

from zoo.bundle import Parity
from zoo.errors import ParityError
from zoo.inference import RowOutcome
from zoo.modalities.base import Array
from zoo.predictor import Predictor
from zoo.tasks import caching

# Below this share of the outputs' scale, two different answers are a tie that rounding may break either way.
_TIE = 1e-5
_STEPS = 3  # tokens after a prompt


@dataclass(frozen=True, slots=True)
class _Gap:
    """Of one output: the largest difference, and the largest absolute value that torch gave."""

    difference: float = 0.0
    scale: float = 0.0

    @property
    def share(self) -> float:
        """What is compared with the tolerance. Infinite for NaN."""
        found = self.difference / max(1.0, self.scale)
        return float("inf") if np.isnan(found) else found

    def widened(self, other: _Gap) -> _Gap:
        # max() would drop a NaN that comes second.
        larger = other.difference > self.difference or np.isnan(other.difference)
        return _Gap(other.difference if larger else self.difference, max(self.scale, other.scale))


@dataclass(frozen=True, slots=True)
class _Case:
    gaps: dict[str, _Gap]
    same: bool


def compare(
    reference: Predictor, candidate: Predictor, samples: Sequence[Any] | None = None, *, tolerance: float = 1e-4
) -> Parity:
    """Compare two predictors on raw inputs.

    samples: raw inputs as `predict` takes them; built-in ones of ragged lengths when None.
    tolerance: allowed absolute difference of any output, times the larger of 1 and that output's largest value.
    Returns the figures; raises ParityError, with them as `report`, when outputs differ by more or a result differs.
    """
    raws = list(samples) if samples is not None else reference.task.samples()
    options = reference.task.parse_options(reference.task.sample_options)
    truth = list(reference.outcomes(raws, options, batch_size=1, on_error="raise", probe=True))
    sizes = tuple(sorted({1, min(2, len(raws)), len(raws)}))
    cases = [
        _compare_row(reference, candidate, expected, got, options)
        for size in sizes
        for expected, got in zip(
            truth, candidate.outcomes(raws, options, batch_size=size, on_error="raise", probe=True), strict=True
        )
    ]
    cases += _compare_steps(reference, candidate, raws, options)
    same = [case.same for case in cases] + _same_generation(reference, candidate, raws)
    gaps: dict[str, _Gap] = {}
    for case in cases:
        gaps.update({name: gaps.get(name, _Gap()).widened(gap) for name, gap in case.gaps.items()})
    # Each output by its own scale: vectors of unit length beside logits of a hundred must not be judged by those.
    worst = max(gaps.values(), key=lambda gap: gap.share)
    report = Parity(
        passed=False,
        samples=len(raws),
        cases=len(cases),
        batch_sizes=sizes,
        max_abs_difference=worst.difference,
        scale=worst.scale,
        tolerance=tolerance * max(1.0, worst.scale),
        agreement=sum(same) / len(same),
        source="built-in" if samples is None else "user",
    )
    # Written so that NaN fails: every comparison with NaN is false.
    if report.max_abs_difference <= report.tolerance and report.agreement == 1.0:
        return structs.replace(report, passed=True)
    raise ParityError(explain(report), report=report)


def compare_graphs(ours: Mapping[str, Array], theirs: Mapping[str, Array], *, tolerance: float) -> None:
    """Compare what two graphs of one bundle gave for the same. Raises ParityError."""
    for name, array in theirs.items():
        gap = _gap(array, ours[name])
        if not gap.share <= tolerance:
            raise ParityError(
                f"The bundle's graph for CPUs gives other {name} than the one for all, so it was not kept: "
                f"they differ by {gap.difference:.3g}, at up to {gap.scale:.3g}."
            )


def explain(report: Parity) -> str:
    verdict = "answers as torch does" if report.passed else "answers differently from torch, so it was not kept"
    return (
        f"The exported graph {verdict}: largest difference {report.max_abs_difference:.3g} (allowed "
        f"{report.tolerance:.3g}, outputs up to {report.scale:.3g}), {report.agreement:.2%} of results the same, over "
        f"{report.samples} {report.source} samples in batches of {', '.join(map(str, report.batch_sizes))}."
    )


def _compare_row(
    reference: Predictor, candidate: Predictor, expected: RowOutcome, got: RowOutcome, options: Any
) -> _Case:
    gaps: dict[str, _Gap] = {}
    for ours, theirs in zip(got.outputs, expected.outputs, strict=True):
        for name, array in theirs.items():
            if array.shape != ours[name].shape:
                return _Case({name: _Gap(float("inf"), float(np.abs(array).max(initial=0.0)))}, False)
            gaps[name] = gaps.get(name, _Gap()).widened(_gap(array, ours[name]))
    decoded = [p.task.decode(row.outputs, row.windows, options) for p, row in ((reference, expected), (candidate, got))]
    tie = all(gap.share <= _TIE for gap in gaps.values())
    return _Case(gaps, tie or reference.task.same(*decoded))


def _compare_steps(reference: Predictor, candidate: Predictor, raws: Sequence[Any], options: Any) -> list[_Case]:
    """Of a task that writes, the logits token by token: a cache is wrong where a whole text read at once is right."""
    if not reference.task.generations:
        return []
    windows = [reference.task.probe(reference.encoder, raw, options)[0] for raw in raws]
    texts = [window.inputs[caching.TOKENS if caching.TOKENS in window.inputs else "input_ids"] for window in windows]
    tokens = np.array([[text[step % len(text)] for text in texts] for step in range(_STEPS)], dtype=np.int64)
    came = candidate.steps(windows, tokens)
    cases = []
    for row, window in enumerate(windows):
        expected = reference.steps([window], tokens[:, row : row + 1])
        gap = _gap(expected, came[:, row : row + 1])
        if (checked := candidate.checked(window, tokens[:, row])) is not None:
            gap = gap.widened(_gap(expected[1:, 0], checked))
        cases.append(_Case({"logits": gap}, True))
    return cases


def _gap(expected: Array, came: Array) -> _Gap:
    if expected.dtype.kind == "f":
        return _Gap(_largest(came - expected), _largest(expected))
    return _Gap() if np.array_equal(expected, came) else _Gap(float("inf"))


def _largest(array: Array) -> float:
    """The largest absolute value, and NaN where there is one: without another array as large as the logits."""
    return float(np.maximum(array.max(initial=0.0), -array.min(initial=0.0)))


def _same_generation(reference: Predictor, candidate: Predictor, raws: Sequence[Any]) -> list[bool]:
    same: list[bool] = []
    for options in reference.task.generations:
        alone = [reference.predict(raw, **options).tokens for raw in raws]
        made = candidate.predict(list(raws), batch_size=len(raws), **options)
        same += [a == b.tokens for a, b in zip(alone, made, strict=True)]
    return same
