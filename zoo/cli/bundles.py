"""`zoo export` and `zoo verify`: a model to a bundle, and every byte of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import zoo
from zoo import bundle
from zoo.cli.loading import PRETRAINED, Adapter, Labels, Name, Revision, TaskOption, Tokenizer, Weights, load_model
from zoo.cli.shared import AsJson, emit, readable


@readable
def export(
    model: Name,
    target: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder to write.", show_default=False)],
    precision: Annotated[str, typer.Option(help="Of the graph's weights: fp32.")] = "fp32",
    samples: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT", help="A raw input to compare on, as for predict; may be repeated."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Allowed difference of any output, times the larger of 1 and the largest output.")
    ] = 1e-4,
    task: TaskOption = None,
    labels: Labels = None,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    adapter: Adapter = None,
    as_json: AsJson = False,
) -> None:
    """Export a model to ONNX with all that serving needs, checked against torch before it is kept."""
    bundle.check_target(target)
    loaded = load_model(
        model, task=task, labels=labels, weights=weights, revision=revision, tokenizer=tokenizer, device="cpu",
        adapter=adapter,
    )  # fmt: skip
    made = loaded.export(target, precision=precision, samples=samples or None, tolerance=tolerance)
    found = made.card.parity
    assert found is not None
    if as_json:
        emit({"bundle": str(target), "task": made.card.task, "parity": found, "bytes": _size(target)})
        return
    from zoo.parity import explain

    typer.echo(f"{explain(found)}\nWrote {target} ({_size(target) / 1e6:.1f} MB).")


@readable
def verify(
    folder: Annotated[Path, typer.Argument(help="A bundle or a saved model.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Check every byte of a bundle or a saved model against its manifest."""
    files = zoo.verify(folder)
    if as_json:
        emit({"folder": str(folder), "intact": True, "files": files})
    else:
        size = sum(entry["size"] for entry in files.values())
        typer.echo(f"{folder} is intact: {len(files)} files, {size / 1e6:.1f} MB.")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
