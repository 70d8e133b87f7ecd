"""`zoo bench`: how fast a bundle answers, over batch sizes and devices, beside torch where that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.shared import AsJson, emit, note, readable
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.predictor import Predictor


@readable
def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An exported bundle.", show_default=False)],
    batch_sizes: Annotated[str, typer.Option(metavar="N,N,...", help="Rows a batch.")] = "1,8,32",
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="cpu|cuda|cpu,cuda", help="Where it runs, one or several; may be repeated. [default: cpu]"
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A saved model, timed in torch beside the bundle.")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="With --against: by torch.compile, too, beside eager torch.")
    ] = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="INPUT", help="A raw input to time on, as for predict; may be repeated."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For each line of the table.")] = 5.0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of one operator, in ONNX Runtime and torch; each one's own choice if not given."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the times to a .png, .svg or .pdf.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the bundle's report with the times in it, as one page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time a bundle: milliseconds a batch (p50, p95, p99) and rows a second, without preprocessing.

    The first batch of each size stands apart: what is done once, as torch.compile's work, is in it.
    """
    from zoo.bench import bench as run
    from zoo.bench import versions

    if compile and against is None:
        raise ConfigError("--compile is torch's: give the saved model too, as in --against FOLDER.")
    sizes, devices = _sizes(batch_sizes), _devices(device)
    if plot is not None:
        from zoo.report_plots import check_ending

        check_ending(plot)
    named = _bundles(bundle, devices, threads)
    if against is not None:
        named |= _eager(against, devices, threads)
    compiled = _compiled(against, devices, len(sizes)) if compile and against is not None else {}
    found = run(named | compiled, inputs=inputs or None, batch_sizes=sizes, seconds=seconds, may_fail=compiled)
    if as_json:
        emit({"bundle": str(bundle), "threads": threads, "versions": versions(), **found.to_dict()})
    else:
        typer.echo(str(found))
    if plot is not None:
        from zoo.report_bench import save

        note(f"Drew {save(found.timings, plot)}")
    if html is not None:
        from zoo.report_card import html as page

        html.write_text(page(bundle, found.timings), encoding="utf-8")
        note(f"Wrote {html}")


def _bundles(bundle: Path, devices: Sequence[str], threads: int | None) -> dict[str, Predictor]:
    import zoo

    return {
        f"bundle, {device}": zoo.runtime.load(bundle, device=device, threads=threads, packed=True)  # type: ignore[arg-type]  # load() checks it
        for device in devices
    }


def _eager(folder: Path, devices: Sequence[str], threads: int | None) -> dict[str, Predictor]:
    import zoo

    found: dict[str, Predictor] = {f"torch, {device}": zoo.load(str(folder), device=device) for device in devices}
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return found


def _compiled(folder: Path, devices: Sequence[str], sizes: int) -> dict[str, Predictor]:
    import torch

    import zoo

    # Each size of a batch is compiled for itself, which is quickest; beyond so many torch would go on uncompiled.
    limit: Any = torch._dynamo.config
    limit.recompile_limit = max(limit.recompile_limit, 2 * sizes)
    found: dict[str, Predictor] = {}
    for device in devices:
        model = zoo.load(str(folder), device=device)
        model.module.compile(dynamic=False)
        found[f"torch.compile, {device}"] = model
    return found


def _devices(given: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for text in given or ["cpu"] for name in text.split(",")))


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise ConfigError(f"--batch-sizes is {text!r}; give whole numbers with commas, as in 1,8,32.") from None
