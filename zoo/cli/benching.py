"""`zoo bench`: how fast a bundle answers, over batch sizes and devices, beside torch where that is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.shared import AsJson, emit, readable
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.predictor import Predictor


@readable
def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An exported bundle.", show_default=False)],
    batch_sizes: Annotated[str, typer.Option(metavar="N,N,...", help="Rows a batch.")] = "1,8,32",
    device: Annotated[
        list[str] | None, typer.Option(metavar="cpu|cuda", help="Where the bundle runs; may be repeated.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A saved model, timed in torch beside the bundle.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="INPUT", help="A raw input to time on, as for predict; may be repeated."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For each line of the table.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Time a bundle: milliseconds a batch (p50, p95, p99) and rows a second, without preprocessing."""
    from zoo.bench import bench as run
    from zoo.bench import table

    named = _predictors(bundle, device or ["cpu"], against)
    timings = run(named, inputs=inputs or None, batch_sizes=_sizes(batch_sizes), seconds=seconds)
    if as_json:
        emit({"bundle": str(bundle), "timings": timings})
    else:
        typer.echo(table(timings))


def _predictors(bundle: Path, devices: list[str], against: Path | None) -> dict[str, Predictor]:
    import zoo

    found: dict[str, Predictor] = {
        f"bundle, {device}": zoo.runtime.load(bundle, device=device)  # type: ignore[arg-type]  # load() checks it
        for device in devices
    }
    if against is not None:
        for device in devices:
            found[f"torch, {device}"] = zoo.load(str(against), device=device)
    return found


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise ConfigError(f"--batch-sizes is {text!r}; give whole numbers with commas, as in 1,8,32.") from None
