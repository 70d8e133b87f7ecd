"""`zoo index` and `zoo search`: the files of a folder that are nearest to a text, an image or a sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo import bundle
from zoo.cli.loading import PRETRAINED, Device, Name, Revision, Tokenizer, Weights, load_predictor
from zoo.cli.shared import AsJson, emit, note, readable

if TYPE_CHECKING:
    from zoo.predictor import Predictor

Target = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.", show_default=False)]


@readable
def index(
    model: Name,
    data: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of files to embed.", show_default=False)],
    target: Target,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Embed all files of a folder that the model can read, to be searched."""
    from zoo.index import Index

    bundle.check_target(target)
    made = Index.build(_predictor(model, weights, revision, tokenizer, device), data)
    made.save(target)
    for message in made.skipped:
        note(f"Left out: {message}")
    if as_json:
        emit({"index": str(target), "files": len(made), "skipped": made.skipped})
        return
    typer.echo(f"Wrote {target}: {len(made)} files by {made.model}.")


@readable
def search(
    model: Name,
    target: Target,
    query: Annotated[str, typer.Argument(metavar="INPUT", help="A text or a file.", show_default=False)],
    side: Annotated[
        str | None,
        typer.Option(metavar="text|image|audio", help="What INPUT is, for a model that embeds two kinds."),
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many to list.")] = 10,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """List the files of an index that are nearest to an input. The model is the one that made the index."""
    from zoo.index import Index

    predictor = _predictor(model, weights, revision, tokenizer, device)
    found = Index.load(target).search(predictor, query, top_k=top_k, side=side)
    if as_json:
        emit([item.to_dict() for item in found])
        return
    for item in found:
        typer.echo(f"{item.score:.4f}  {item.name}")


def _predictor(model: str, weights: str, revision: str | None, tokenizer: Path | None, device: str | None) -> Predictor:
    return load_predictor(
        model, task=None, labels=None, weights=weights, revision=revision, tokenizer=tokenizer, device=device
    )
