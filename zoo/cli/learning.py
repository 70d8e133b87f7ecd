"""`zoo finetune` and `zoo evaluate`: from labelled data to a model, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import zoo
from zoo import bundle
from zoo.cli.fields import parsed, with_fields
from zoo.cli.loading import (
    PRETRAINED,
    Adapter,
    Compile,
    Device,
    Labels,
    Name,
    Precision,
    Revision,
    TaskOption,
    Tokenizer,
    Weights,
    load_model,
    load_predictor,
)
from zoo.cli.predicting import BatchSize, OnError, OnErrorOption
from zoo.cli.shared import AsJson, emit, names, note, number_or, pairs, readable
from zoo.cli.wording import as_typed
from zoo.errors import ConfigError
from zoo.plain import load_json
from zoo.training.config import TrainConfig

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder with one folder a class, or of boxes by COCO, YOLO or Pascal VOC; a .csv, .tsv, .jsonl or "
        ".parquet table; or a CoNLL file.",
        show_default=False,
    ),
]
ProblemOption = Annotated[
    str | None,
    typer.Option(
        "--problem-type",
        metavar="NAME",
        help="Of a classification: single_label_classification, multi_label_classification or regression; as the data "
        "shows when not given.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=NAME", help="What the data calls a column, as in text=review; may be repeated."),
]


@with_fields(TrainConfig)
@readable
def finetune(
    model: Name,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to save the model in.", show_default=False)],
    val: Annotated[str, typer.Option(help="Validation data, a fraction to hold out, or 'none'.")] = "0.1",
    columns: Columns = None,
    problem_type: ProblemOption = None,
    task: TaskOption = None,
    labels: Labels = None,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    adapter: Adapter = None,
    save_adapter: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write what --method lora or its kin trained alone, too: some megabytes to put on the same MODEL.",
        ),
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Fine-tune a model on your data, and save the best epoch.

    Checkpoints go to OUTPUT.run unless --output-dir says otherwise; the same command with --resume goes on from the
    newest.
    """
    bundle.check_target(output)
    if save_adapter is not None:
        bundle.check_target(save_adapter)
    chosen = {"output_dir": output.with_name(f"{output.name}.run"), **parsed(TrainConfig, options)}
    # Checked before anything is loaded; a model's own defaults are added by finetune().
    config = TrainConfig.parse(chosen)
    if save_adapter is not None and config.method in ("full", "head"):
        raise ConfigError(f"--save-adapter needs a --method that puts one in; {config.method} does not.")
    renamed = pairs(columns, "--columns")
    loaded = load_model(
        model, weights=weights, revision=revision, tokenizer=tokenizer, device=device, seed=config.seed, adapter=adapter
    )
    loaded.finetune(
        data,
        _val(val),
        task=task,
        labels=names(labels, "--labels"),
        columns=renamed,
        problem_type=problem_type,  # type: ignore[arg-type]  # finetune() checks it
        **chosen,
    )
    loaded.save(output)
    if save_adapter is not None:
        note(f"Wrote {loaded.save_adapter(save_adapter)}")
    if as_json:
        emit({"model": str(output), "task": loaded.task.name, "labels": loaded.labels, "history": loaded.history})
    else:
        typer.echo(_outcome(loaded, output))


@readable
def lint(
    data: Data,
    val: Annotated[str, typer.Option(help="Validation data, a fraction to hold out, or 'none'.")] = "none",
    model: Annotated[str | None, typer.Option(help="Measure lengths, rates and sizes against this model.")] = None,
    columns: Columns = None,
    task: TaskOption = None,
    labels: Labels = None,
    tokenizer: Tokenizer = None,
    as_json: AsJson = False,
) -> None:
    """Look for the known faults of labelled data; exits with 1 when training on it can't be right."""
    from zoo.training.lint import lint as look

    renamed = pairs(columns, "--columns")
    loaded = load_model(model, task=task, tokenizer=tokenizer) if model is not None else None
    report = look(data, _val(val), task=task, model=loaded, columns=renamed, labels=names(labels, "--labels") or ())
    # What it advises are options of the training.
    emit(report) if as_json else typer.echo(as_typed(str(report), finetune))
    if not report.ok:
        raise typer.Exit(1)


def _val(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _outcome(model: zoo.Model, output: Path) -> str:
    epochs = len(model.history)
    head = f"{len(model.labels)} labels, " if model.labels else ""
    metric = model.task.metric
    scores = [record[metric] for record in model.history if metric in record]
    best = (max if model.task.higher_is_better else min)(scores) if scores else None
    found = (
        f"{metric} {best:.4f} on the validation data" if best is not None else "not measured, without validation data"
    )
    return f"Saved {output}: {model.task.name}, {head}{epochs} epoch{'s' * (epochs != 1)}, {found}."


@readable
def evaluate(
    model: Name,
    data: Data,
    columns: Columns = None,
    batch_size: BatchSize = "auto",
    on_error: OnErrorOption = OnError.raise_,
    task: TaskOption = None,
    labels: Labels = None,
    weights: Weights = PRETRAINED,
    revision: Revision = None,
    tokenizer: Tokenizer = None,
    device: Device = None,
    precision: Precision = None,
    compile: Compile = False,
    predict_with_generate: Annotated[
        bool,
        typer.Option(
            "--predict-with-generate/--no-predict-with-generate",
            help="Measure summaries and translations by generated texts too.",
        ),
    ] = True,
    generation: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Options of those, as in '{\"num_beams\": 4}'; greedy when not given."),
    ] = None,
    adapter: Adapter = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page, too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it to a .png, .svg or .pdf, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled data: metrics, scores of each class, confusion. Of a bundle, without torch."""
    renamed = pairs(columns, "--columns")
    size = number_or(batch_size, ["auto"], "--batch-size")
    loaded = load_predictor(
        model, task=task, labels=labels, weights=weights, revision=revision, tokenizer=tokenizer, device=device,
        precision=precision, compile=compile, adapter=adapter,
    )  # fmt: skip
    report = zoo.evaluate(
        loaded,  # type: ignore[arg-type]  # A model or a bundle.
        data,
        columns=renamed,
        batch_size=size,
        on_error=on_error.value,
        predict_with_generate=predict_with_generate,
        generation=_generation(generation),
    )
    if html is not None:
        note(f"Wrote {report.to_html(html)}")
    if plot is not None:
        note(f"Wrote {report.plot(plot)}")
    emit(report) if as_json else typer.echo(str(report))


def _generation(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = load_json(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f'--generation is {text!r}; give a JSON object, as in {{"num_beams": 4}}.')
    return found
