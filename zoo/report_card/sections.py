"""The sections of a bundle's report. All texts in them are a stranger's: cut to a length, and escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import bundle, manifest, tasks
from zoo.bundle import Attempt, Card, Quality, TensorSpec
from zoo.report_card.words import short
from zoo.report_html import code, embedded, facts, paragraph, table
from zoo.report_plots import history_table
from zoo.report_text import number

if TYPE_CHECKING:
    from zoo.bench import Timing

_LABELS = 40
_LEFT_OUT = 20
_EPOCHS = 50
_FIGURES = 30  # of an epoch
_TENSORS = 60
_EXAMPLES = {"text": '"A text."', "image": "picture.jpg", "audio": "recording.wav", "mel": "recording.wav"}


def facts_of(card: Card, folder: Path) -> str:
    spec = card.spec
    weights = spec.weights
    published = (
        f"{short(weights.repo)}, {short(weights.file)}, revision {short(weights.revision)}: those of the model by this "
        "name. What was given or trained since is in this folder alone."
        if weights
        else ""
    )
    rows = [
        ("Name", spec.name),
        ("Task", card.task + (f" ({spec.problem_type})" if spec.problem_type else "")),
        ("Labels", _labels(card)),
        ("Architecture", f"{short(spec.architecture)} ({spec.backend})"),
        (
            "Parameters",
            f"{spec.parameters:,} as published, with the head of its default task" if spec.parameters else "",
        ),
        ("Precision", card.export.precision if card.export else ""),
        ("Size", _size(sum(path.stat().st_size for path in _files(folder)))),
        ("Licence", short(spec.license or "not stated")),
        ("Published weights", published),
        ("Source", short(spec.source or "")),
        ("Paper", short(spec.paper or "")),
    ]
    return facts(rows)


def _labels(card: Card) -> str:
    labels = card.spec.labels if tasks.get(card.task, card.spec).needs_labels else None
    if not isinstance(labels, tuple):
        return ""
    rest = f", and {len(labels) - _LABELS:,} more" if len(labels) > _LABELS else ""
    return f"{len(labels):,}: {', '.join(short(label, 60) for label in labels[:_LABELS])}{rest}"


def commands(card: Card) -> str:
    task = tasks.get(card.task, card.spec)
    example = _EXAMPLES.get(card.spec.input.kind, "rows.jsonl")
    if task.more_inputs:
        example = "inputs.jsonl"
    if "candidate_labels" in task.sample_options:
        example += ' --candidate-labels "one, another"'
    lines = [
        'pip install "polyzoo[cpu,serve]"   # or [gpu,serve]; no torch',
        "zoo verify BUNDLE                  # every byte against the manifest",
        f"zoo predict BUNDLE {example}",
        "zoo serve BUNDLE                   # HTTP, and a page at http://127.0.0.1:8000/",
    ]
    return paragraph("BUNDLE is this folder.") + code("\n".join(lines))


def tensors(card: Card) -> str:
    contracts = [(graph.file, graph.inputs, graph.outputs) for graph in card.graphs or ()]
    contracts = contracts or [(bundle.GRAPH, card.inputs, card.outputs)]
    rows = []
    for file, inputs, outputs in contracts:
        # Its card says what it has more.
        file = f"{file}, with those of {bundle.GRAPH}" if file == bundle.SHORTLIST else file
        rows += [_tensor(file, "in", group) for group in _alike(inputs)]
        rows += [_tensor(file, "out", group) for group in _alike(outputs)]
    more = [("and more", "", "", "", "")] if len(rows) > _TENSORS else []
    return table(("tensor", "", "type", "shape", "graph"), [*rows[:_TENSORS], *more])


def _alike(found: Sequence[TensorSpec]) -> list[list[TensorSpec]]:
    """Those of all layers together: past_key_values.0.key, past_key_values.1.key, ..."""
    groups: dict[tuple[object, ...], list[TensorSpec]] = {}
    for item in found:
        groups.setdefault((re.sub(r"\.\d+\.", ".N.", item.name), item.dtype, item.shape), []).append(item)
    return list(groups.values())


def _tensor(file: str, way: str, group: Sequence[TensorSpec]) -> tuple[str, ...]:
    first = group[0]
    name = first.name if len(group) == 1 else f"{re.sub(r'[.][0-9]+[.]', '.N.', first.name)}, {len(group)} layers"
    return short(name, 80), way, short(first.dtype, 20), short(" x ".join(map(str, first.shape)), 80), file


def parity(card: Card) -> str:
    found = card.parity
    if found is None:
        return ""
    sizes = ", ".join(map(str, found.batch_sizes))
    of = " (the fp32 graph that this one was reduced from)" if card.quality is not None and card.quality.way else ""
    rows = [
        ("Verdict", ("answers as torch does" if found.passed else "answers differently from torch") + of),
        ("Largest difference", f"{found.max_abs_difference:.3g}, where outputs reach {found.scale:.3g}"),
        ("Allowed", f"{found.tolerance:.3g}"),
        ("Same results", f"{found.agreement:.2%}"),
        ("Compared", f"{found.samples} {found.source} inputs in batches of {sizes}; torch answered each alone"),
    ]
    return facts(rows)


def quality(card: Card) -> str:
    found = card.quality
    if found is None:
        return ""
    unit = "as a share" if found.relative else "of the metric"
    rows = [
        ("Way", short(found.way or "none passed")),
        (found.metric, f"{_figure(found.before)} in fp32, {_figure(found.after)} here, on {found.rows:,} rows"),
        ("Drop", f"{_figure(found.drop)} ({unit}); allowed {found.max_drop:g}"),
        ("Speed", f"{_speed(found)} times fp32's on {short(found.device)}" if found.speed is not None else ""),
        ("Size", f"{_size(found.bytes_before)} in fp32, {_size(found.bytes_after or 0)} here"),
        ("Found on", f"{found.calibration_rows:,} other rows"),
        ("Left in fp32", _left_out(found.left_out)),
    ]
    header = ("tried", "metric", "speed", "size", "left in fp32", "verdict")
    return facts(rows) + (table(header, [_attempt(item) for item in found.tried]) if found.tried else "")


def _attempt(item: Attempt) -> tuple[str, ...]:
    size = _size(item.bytes) if item.bytes is not None else ""
    return short(item.way, 40), _figure(item.after), _speed(item), size, str(item.left_out), short(item.verdict)


def _speed(found: Quality | Attempt) -> str:
    if found.speed is None:
        return ""
    between = found.speed_between
    return f"{found.speed:.2f}" + (f" ({between[0]:.2f} to {between[1]:.2f})" if between else "")


def _left_out(names: Sequence[str]) -> str:
    more = f", and {len(names) - _LEFT_OUT} more" if len(names) > _LEFT_OUT else ""
    return ", ".join(short(name, 60) for name in names[:_LEFT_OUT]) + more or "nothing"


def fine_tuning(card: Card) -> str:
    history = card.history
    if not history:
        return ""
    metric, higher = tasks.make(card.task, card.spec, ()).judged_by(history[-1])
    judged = [(record[metric], place) for place, record in enumerate(history, 1) if _is_finite(record.get(metric))]
    said = f"{len(history):,} epochs."
    if judged:
        best, place = (max if higher else min)(judged, key=lambda item: item[0])
        said += f" {metric} on the validation rows was best after epoch {place}: {number(best)}."
    shown = [
        {short(name, 40): value for name, value in list(record.items())[:_FIGURES] if _is_finite(value)}
        for record in history[-_EPOCHS:]
    ]
    return paragraph(said) + history_table(shown)


def times(timings: Sequence[Timing]) -> str:
    if not timings:
        return ""
    from zoo.report_bench import png

    header = ("name", "rows a batch", "p50 ms", "p95 ms", "p99 ms", "rows/s", "runs", "first ms")
    rows = [
        (t.name, str(t.batch_size), f"{t.p50:.2f}", f"{t.p95:.2f}", f"{t.p99:.2f}", f"{t.throughput:,.1f}", str(t.runs),
         f"{t.first:.1f}")
        for t in timings
    ]  # fmt: skip
    said = "Of the network alone: preprocessing is not in them. The first batch of a size is not among the percentiles."
    return paragraph(said) + table(header, rows) + embedded("Times", png(timings))


def files(folder: Path) -> str:
    rows = [(short(path.name, 80), _size(path.stat().st_size)) for path in _files(folder)]
    return table(("file", "size"), rows) + paragraph("manifest.json has the sha256 of each, and of this page.")


def _files(folder: Path) -> list[Path]:
    left_out = (bundle.REPORT, manifest.MANIFEST)
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name not in left_out)


def made_with(card: Card) -> str:
    made = card.export
    rows = [("polyzoo", f"{short(card.zoo, 40)}, format {card.format}")]
    if made is not None:
        rows.append(("ONNX opset", str(made.opset)))
        rows += [(short(name, 40), short(version, 40)) for name, version in list(made.versions.items())[:20]]
    return facts(rows)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
