"""`zoo export` and `zoo verify`: a model to a bundle, and every byte of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo import bundle
from zoo.cli.loading import (
    PRETRAINED,
    Adapter,
    Labels,
    Name,
    Revision,
    TaskOption,
    Tokenizer,
    Weights,
    is_bundle,
    load_model,
    refuse_fixed,
)
from zoo.cli.shared import AsJson, emit, pairs, readable
from zoo.errors import ConfigError

_LESS = "Less than fp32"


@readable
def export(
    model: Name,
    target: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder to write; or say it with -o.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder to write.", show_default=False)
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="fp32, int8, fp16, bf16, or auto: the fastest good enough one.", rich_help_panel=_LESS),
    ] = "fp32",
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Labelled data, as for evaluate, to reduce it with; for embeddings, inputs alone.",
            rich_help_panel=_LESS,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="The same, to judge it on; half of --calibration if not given.",
            rich_help_panel=_LESS,
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NAME",
            help="What the data calls a column, as in text=review; may be repeated.",
            rich_help_panel=_LESS,
        ),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            help="Of the task's metric, or of embeddings' cosine to fp32's: how much may be lost.",
            rich_help_panel=_LESS,
        ),
    ] = 0.01,
    runs_on: Annotated[
        str, typer.Option(metavar="cpu|cuda", help="Where it will run, and is measured.", rich_help_panel=_LESS)
    ] = "cpu",
    samples: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT", help="A raw input to compare on, as for predict; may be repeated."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Allowed difference of any output, times the larger of 1 and the largest output.")
    ] = 1e-4,
    draft: Annotated[
        bool,
        typer.Option(
            "--draft/--no-draft",
            help="With an int8 copy of a large language model, which lets it write faster on a CPU.",
        ),
    ] = True,
    layout: Annotated[
        str,
        typer.Option(metavar="bundle|triton", help="triton: into a model repository of Triton; of a bundle, too."),
    ] = "bundle",
    task: TaskOption = None,
    labels: Labels = None,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    adapter: Adapter = None,
    as_json: AsJson = False,
) -> None:
    """Export a model to ONNX with all that serving needs, checked against torch before it is kept.

    Less than fp32 is measured on your data, and refused where it is worse than allowed or no faster. It can be made of
    a bundle in fp32, too, and then without torch.
    """
    if (target is None) == (output is None):
        raise ConfigError("Give one folder to write: zoo export MODEL BUNDLE, or zoo export MODEL -o BUNDLE.")
    target = target or output
    assert target is not None
    whole = is_bundle(model)
    if whole:
        refuse_fixed(
            model, task=task, labels=labels, weights=weights, revision=revision, tokenizer=tokenizer, adapter=adapter
        )
    if layout != "bundle" and whole and precision == "fp32":
        written = _laid_out(Path(model).expanduser(), model, target, layout, runs_on)
        if as_json:
            emit({"models": [str(path) for path in written], "bytes": _size(*written)})
        else:
            typer.echo(_told(written))
        return
    with _place(model, target, layout) as place:
        renamed = pairs(columns, "--columns")
        loaded = Path(model).expanduser() if whole else load_model(
            model, task=task, labels=labels, weights=weights, revision=revision, tokenizer=tokenizer, device="cpu",
            adapter=adapter,
        )  # fmt: skip
        made = zoo.export(
            loaded,
            place,
            precision=precision,
            calibration=calibration,
            test=test,
            columns=renamed,
            max_drop=max_drop,
            runs_on=runs_on,  # type: ignore[arg-type]  # export() checks it
            samples=samples or None,
            tolerance=tolerance,
            draft=draft,
        )
        written = [target] if layout == "bundle" else _laid_out(place, model, target, layout, runs_on)
    found, quality = made.card.parity, made.card.quality
    assert found is not None
    if as_json:
        where: dict[str, Any] = {"bundle": str(target)}
        if layout != "bundle":
            where = {"models": [str(path) for path in written]}
        emit({**where, "task": made.card.task, "parity": found, "quality": quality, "bytes": _size(*written)})
        return
    from zoo.parity import explain
    from zoo.precision import explain as explain_quality

    told = "" if quality is None else f"{explain_quality(quality)}\n"
    typer.echo(f"{explain(found)}\n{told}{_told(written)}")


@contextmanager
def _place(model: str, target: Path, layout: str) -> Iterator[Path]:
    """Where the bundle is written: its target, or on the way to another layout a folder that goes."""
    if layout == "bundle":
        bundle.check_target(target)
        yield target
        return
    from zoo import layouts

    if layout != "triton":
        raise ConfigError(f"--layout is {layout!r}; it is bundle or triton.")
    for name in (layouts.model_name(model), f"{layouts.model_name(model)}_graph"):
        layouts.check_model(target, name)
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        yield Path(folder) / "bundle"


def _laid_out(source: Path, model: str, target: Path, layout: str, device: str) -> list[Path]:
    from zoo import layouts

    if layout != "triton":
        raise ConfigError(f"--layout is {layout!r}; it is bundle or triton.")
    models = layouts.triton(source, target, name=layouts.model_name(model), device=device)  # type: ignore[arg-type]
    return [target / name for name in models]


def _told(written: Sequence[Path]) -> str:
    return f"Wrote {' and '.join(map(str, written))} ({_size(*written) / 1e6:.1f} MB)."


@readable
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A bundle or a saved model.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Check every byte of a bundle or a saved model against its manifest."""
    files = zoo.verify(folder)
    if as_json:
        emit({"folder": str(folder), "intact": True, "files": files})
    else:
        size = sum(entry["size"] for entry in files.values())
        typer.echo(f"{folder} is intact: {len(files)} files, {size / 1e6:.1f} MB.")


def _size(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
