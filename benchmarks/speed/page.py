"""docs/benchmarks.md and its plot, from benchmarks/results/speed_*.json: `python -m benchmarks.speed.page`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.common import RESULTS, ROOT
from benchmarks.speed.command import OTHERS, SERVED, WORKS, file_of
from benchmarks.speed.table import why

PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "images" / "speed.svg"
Found = Mapping[str, Mapping[str, Mapping[str, Any] | None]]
_HEAD = """# Speed, measured

Written by `python -m benchmarks.speed.page` from the figures of `make bench`; not by hand. Each contestant is a process
of its own. It answers first, and takes part only if it answers as the first one of its contest does. Then all are timed
in turn. *Times* says how many times as quick as the first one a contestant was in the same round: the median of the
rounds, and in brackets the lowest and the highest. Memory is the peak of the resident memory of one run. Where the
ceilings of a GPU were measured, a share of them stands behind: of the bf16 matrix product or of the copy, whichever is
nearer. Lines of this project are bold. [Performance](performance.md) says what is on by default, and how to measure.
"""
_SECTIONS = {"cpu": "On the CPU", **OTHERS, "gpu": "On one GPU"}
# Figures of a contestant's own that are shown beside its time.
_MORE = {
    "loss": "loss {:.2f}", "updates": "{:.0f} updates to a loss of 0.5", "mb": "{:.0f} MB on disk",
    "gpu_mb": "{:,.0f} MB of the GPU", "busy": "GPU busy {:.0%}", "waits": "the host waits {:.1f} times a step",
    "p99_ms": "p99 {:.1f} ms",
}  # fmt: skip
_COLUMNS = ("work", "contest", "contestant", "times", "a second", "peak MB")


def results() -> dict[str, dict[str, Any]]:
    """By section and work: what was measured, None for what was not."""
    sections = {"cpu": WORKS["cpu"], **dict.fromkeys(OTHERS, WORKS["cpu"]), "gpu": WORKS["gpu"]}
    return {name: {work: _read(RESULTS / file_of(name, work)) for work in works} for name, works in sections.items()}


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def page(found: Found) -> str:
    parts = [_HEAD]
    if any(found["cpu"].values()):
        parts.append("![how many times as quick as the first of its contest each contestant is](images/speed.svg)\n")
    for section, works in found.items():
        if section in OTHERS:
            works = {work: result for work, result in works.items() if result}
            if not works:
                continue
        parts += [f"## {_SECTIONS[section]}\n", "\n".join(_table(works)), ""]
        parts += [f"{work}: {_told(result)}\n" for work, result in works.items() if result]
        parts += _minutes(works)
    return "\n".join(parts).rstrip() + "\n"


def _minutes(works: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """What the works of a section took in all; servers, which are asked on demand, beside them."""
    took = {work: result["minutes"] for work, result in works.items() if result}
    servers = took.pop(SERVED, None)
    if not took:
        return []
    more = f", {SERVED} {servers:.0f} more" if servers is not None else ""
    return [f"These works took {sum(took.values()):.0f} minutes{more}.\n"]


def _table(works: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield f"|{'---|' * len(_COLUMNS)}"
    for work, result in works.items():
        if result is None:
            title = importlib.import_module(f"benchmarks.speed.{work}").FACTS["title"]
            yield f"| {title} | not measured | | | | |"
            continue
        for contest in result["contests"]:
            lead = f"| {result['title']} | {contest['name']} |"
            for row in contest["rows"]:
                yield f"{lead} {_row(row, contest['unit'], _share(row, contest, works.get('ceilings')))} |"


def _share(row: Mapping[str, Any], contest: Mapping[str, Any], ceilings: Mapping[str, Any] | None) -> str:
    """Of what the device can do at most: by arithmetic or by memory, whichever the work comes closer to."""
    if ceilings is None or "per_second" not in row:
        return ""
    most = {made["unit"]: made["rows"][0]["per_second"] for made in ceilings["contests"]}
    costs = (("gflop", "TFLOP", "of the matrix product"), ("gb", "TB", "of the copy"))
    shares = [
        (contest[cost] * row["per_second"] / 1e3 / most[unit], roof) for cost, unit, roof in costs if cost in contest
    ]
    return "; {:.0%} {}".format(*max(shares)) if shares else ""


def _row(row: Mapping[str, Any], unit: str, share: str) -> str:
    name = f"**{row['name']}**" if row["ours"] else row["name"]
    reason = why(row).replace("|", "/")
    if reason:
        return f"{name} | {reason} | | "
    times, more = row["times"], share
    if row["same"] < 1:
        more = f"; {row['same']:.0%} of the answers the same"
    for figure, form in _MORE.items():
        if figure in row:
            more += f"; {_figure(row[figure], form)}"
    return (
        f"{name} | {times['median']:.2f} ({times['min']:.2f} to {times['max']:.2f}){more} "
        f"| {row['per_second']:,.4g} {unit} | {row['peak_mb']:,.0f}"
    )


def _figure(found: Mapping[str, float], form: str) -> str:
    """With its range, where that shows."""
    median, lowest, highest = (form.format(found[name]) for name in ("median", "min", "max"))
    return median if lowest == highest else f"{median} ({lowest} to {highest})"


def _told(result: Mapping[str, Any]) -> str:
    named = {**result["versions"], **result.get("servers", {})}
    versions = ", ".join(f"{name} {number}" for name, number in named.items())
    load = result["load_average"]["before"]
    return (
        f"{result['model']}; {result['data']}. {result['rounds']} rounds, {result['device']}, threads: "
        f"{result['threads']}, load average before: {load:.1f}, Python {result['python']}, {versions}."
    )


_TICKS = (0.5, 1, 2, 5, 10, 20)
_SHORT = (
    "text", "images", "audio", "embed", "generate", "finetune", "finetune_images", "finetune_audio", "cold_start",
)  # fmt: skip
_OURS = (("zoo, torch", "zoo, finetune"), ("zoo, bundle fp32", "zoo.runtime"), ("zoo, bundle int8",))


def summary(found: Found) -> str:
    """The README's table: the first contest of most works, by its medians; those of other CPUs behind strokes."""
    lines = [
        "| work | what is 1.0 | best of the others | zoo in torch | bundle | bundle, int8 |",
        "|---|---|---|---|---|---|",
    ]
    for work in _SHORT:
        result, *others = (found.get(section, {}).get(work) for section in ("cpu", *OTHERS))
        if result is None:
            continue
        contest = result["contests"][0]
        first = contest["rows"][0]
        columns = [_cells(contest), *(_cells(other["contests"][0]) if other else ["-"] * 4 for other in others)]
        cells = ["-" if set(cell) == {"-"} else " / ".join(cell) for cell in zip(*columns, strict=True)]
        model = result["model"].partition(", random")[0]
        names = dict.fromkeys(found["contests"][0]["name"] for found in (result, *others) if found)
        lines.append(f"| {model}: {' / '.join(names)} | {first['name']}{_loss(first)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(contest: Mapping[str, Any]) -> list[str]:
    first = contest["rows"][0]["name"]
    rows = {row["name"]: row for row in contest["rows"] if "times" in row}
    # What runs the network alone is a limit, and nobody's way to get an answer.
    others = [row for name, row in rows.items() if not (row["ours"] or name == first or name.endswith("alone"))]
    return [_best(others), *(_best([rows[name] for name in names if name in rows]) for names in _OURS)]


def _best(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "-"
    best = max(rows, key=lambda row: row["times"]["median"])
    return f"{best['times']['median']:.1f}{_loss(best)}"


def _loss(row: Mapping[str, Any]) -> str:
    """A run that learns less in its time is not simply quicker."""
    return f" (loss {row['loss']['median']:.2f})" if "loss" in row else ""


def of_servers(result: Mapping[str, Any]) -> str:
    """The table of docs/serving.md."""
    lines = [
        "| model, connections | server | requests/s (lowest to highest) | p50 ms | p99 ms | MB |",
        "|---|---|---|---|---|---|",
    ]
    for contest in result["contests"]:
        for row in contest["rows"]:
            # Seconds are those of one request.
            least, most = (1 / row["seconds"][name] for name in ("max", "min"))
            rates = [f"{rate:.1f}" if rate < 100 else f"{rate:.0f}" for rate in (row["per_second"], least, most)]
            lines.append(
                f"| {contest['name']} | {row['name']} | {rates[0]} ({rates[1]} to {rates[2]}) "
                f"| {row['p50_ms']['median']:.1f} | {row['p99_ms']['median']:.1f} | {row['peak_mb']:,.0f} |"
            )
    return "\n".join(lines)


def draw(found: Found) -> None:
    """Of the first contest of every work of the CPU half, bars of `times`, with their range. Nothing without any."""
    from zoo.report_plots import COLOURS, figure

    bars: list[tuple[str, Mapping[str, float], str]] = []
    for work, result in found["cpu"].items():
        if result is None or work == "ceilings":
            continue
        rows = [row for row in result["contests"][0]["rows"] if "times" in row]
        bars += [(f"{result['title']}: {r['name']}", r["times"], COLOURS[0] if r["ours"] else "#999999") for r in rows]

    def panel(axes: Any) -> None:
        names, times, colours = zip(*bars[::-1], strict=True)
        middle = [one["median"] for one in times]
        below = [one["median"] - one["min"] for one in times]
        above = [one["max"] - one["median"] for one in times]
        axes.barh(names, middle, xerr=[below, above], color=colours)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.minorticks_off()
        axes.margins(y=0.01)
        axes.set_xlabel("times as quick as the first of each work; this project's in blue")
        axes.spines[["top", "right"]].set_visible(False)

    if bars:
        made = figure([panel])
        made.set_size_inches(9, 1 + 0.22 * len(bars))
        made.savefig(PLOT, bbox_inches="tight")


def write() -> None:
    found = results()
    draw(found)
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    write()
    print(summary(results()))
