"""`zoo.load()`, `zoo.evaluate()`, `zoo.export()`: from a name, a folder or a checkpoint to a model, its report, its
bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import bundle, learning, loading
from zoo.errors import ConfigError, missing
from zoo.loading import PRETRAINED, Source
from zoo.model import Model
from zoo.runtime import BundleModel
from zoo.runtime import load as load_bundle
from zoo.training import scoring

if TYPE_CHECKING:
    import tokenizers

    from zoo.inference import BatchSize, OnError
    from zoo.report import Report
    from zoo.runtime.session import Device
    from zoo.spec import ProblemType


def load(
    name: Source,
    *,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    weights: str | Path | None = PRETRAINED,
    revision: str | None = None,
    tokenizer: str | Path | tokenizers.Tokenizer | None = None,
    device: str | None = None,
    precision: str = "fp32",
    compile: bool = False,
    seed: int | None = None,
    problem_type: ProblemType | None = None,
    input: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any] | None = None,
) -> Model:
    """A model, ready to predict or to be fine-tuned, on the best device there is.

    name: of the catalogue (`zoo.list_models()`); "timm:...", "torchvision:...", "torchaudio:..." or "hf:org/name"; a
        folder that `save()` wrote, or a checkpoint folder of transformers or timm; or a `ModelSpec`.
    task: one of the spec's tasks, its first when None.
    labels: of a new head, in the order of the logits.
    weights: "pretrained"; a file (safetensors, or a pickle read with weights_only); or None for random ones, which
        touches no network and, for text, uses a built-in byte-level tokenizer unless `tokenizer` is given.
    revision: a commit, tag or branch of the hub's repository.
    device: "cpu", "cuda", ...; the best there is when None.
    precision: what predict(), embed() and evaluate() compute in: "fp32", or torch's autocast to "bf16", for GPUs and
        for CPUs that multiply in it (`zoo doctor` tells), or to "fp16", for GPUs. Fine-tuning has an option of its
        own; a bundle is compared with answers in fp32.
    compile: answer by torch.compile: the first answers take the compiler a minute or more, later ones less time than
        without. Of generation it is the step of one token, on CUDA. On a CPU it needs a C++ compiler.
    seed: of random weights and new heads.
    problem_type: of a classification: "single_label_classification", "multi_label_classification" or "regression".
    input: changes of how raw inputs are read, by the names of the spec's `input`, such as {"channels": 1} for grey
        images or {"window": "percentile"} for those of 16 bits.
    decoder: changes of how answers are written, by the names of the spec's `decoder`, such as
        {"source_language": "de"}.
    Raises UnknownModel, WeightsUnavailable, UnsafeWeights, ConfigError, DeviceError, MissingDependency.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise missing("torch", "train", "zoo.load()") from error
    parts = loading.assemble(
        name,
        task=task,
        labels=labels,
        weights=weights,
        revision=revision,
        tokenizer=tokenizer,
        seed=seed,
        problem_type=problem_type,
        input=input,
        decoder=decoder,
    )
    return Model(parts, device=device, precision=precision, compile=compile)


def evaluate(
    model: Source | Model | BundleModel,
    test: Any,
    *,
    columns: Mapping[str, str] | None = None,
    batch_size: BatchSize = "auto",
    on_error: OnError = "raise",
    predict_with_generate: bool = True,
    generation: Mapping[str, Any] | None = None,
) -> Report:
    """Measure a model, or anything that `load` takes, on labelled data; or an exported bundle (its folder, or what
    `zoo.runtime.load` gave), for which no torch is needed.

    All arguments: as of `Model.evaluate`. Raises what `load` and that raise; ConfigError for a bundle of a task that
    nothing measures, such as embeddings.
    """
    folder = _bundle_of(model)
    if folder is None:
        assert not isinstance(model, BundleModel)
        loaded = model if isinstance(model, Model) else load(model)
        return loaded.evaluate(
            test, columns=columns, batch_size=batch_size, on_error=on_error,
            predict_with_generate=predict_with_generate, generation=generation,
        )  # fmt: skip
    given = model if isinstance(model, BundleModel) else load_bundle(folder)
    if not given.task.trainable or not given.task.metric:
        raise ConfigError(f"{folder} is a bundle of {given.task.name}, which no labelled data measure.")
    rows = learning.labelled(given, test, columns=columns, on_error=on_error)
    report = scoring.measure(
        given, rows, batch_size=batch_size, on_error=on_error, predict_with_generate=predict_with_generate,
        generation=generation,
    )  # fmt: skip
    return replace(report, history=given.card.history, skipped=(*rows.skipped, *report.skipped))


def export(
    model: Source | Model | BundleModel,
    target: str | Path,
    *,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    tokenizer: str | Path | tokenizers.Tokenizer | None = None,
    precision: str = "fp32",
    calibration: Any = None,
    test: Any = None,
    columns: Mapping[str, str] | None = None,
    max_drop: float = 0.01,
    runs_on: Device = "cpu",
    samples: Sequence[Any] | None = None,
    tolerance: float = 1e-4,
    draft: bool = True,
) -> BundleModel:
    """A bundle of a model, or of anything that `load` takes: a checkpoint folder of transformers or timm, too. Or a
    bundle in less than fp32 of one in fp32 (its folder, or what `zoo.runtime.load` gave), for which no torch is needed.

    task, labels, tokenizer: as of `load`; ConfigError beside a loaded model or a bundle, which have their own.
    samples: ConfigError beside a bundle, which was compared with torch when it was made; `tolerance` and `draft` are
        nothing to it.
    All others: as of `Model.export`.
    Raises what `load` and `Model.export` raise.
    """
    fixed = task is not None or labels is not None or tokenizer is not None
    source = _bundle_of(model)
    if source is not None:
        if fixed or samples is not None:
            raise ConfigError("A bundle has its own task, labels and tokenizer, and was compared when it was exported.")
        return _reduced(source, target, precision, calibration, test, columns, max_drop, runs_on)
    if isinstance(model, Model):
        if fixed:
            raise ConfigError("A loaded model has its own task, labels and tokenizer; give its name or folder instead.")
        loaded = model
    else:
        assert not isinstance(model, BundleModel)
        bundle.check_target(Path(target))
        loaded = load(model, task=task, labels=labels, tokenizer=tokenizer, device="cpu")
    return loaded.export(
        target,
        precision=precision,
        calibration=calibration,
        test=test,
        columns=columns,
        max_drop=max_drop,
        runs_on=runs_on,
        samples=samples,
        tolerance=tolerance,
        draft=draft,
    )


def _bundle_of(model: Source | Model | BundleModel) -> Path | None:
    """The folder of what is an exported bundle already."""
    if isinstance(model, BundleModel):
        return model.folder
    if not isinstance(model, str | Path):
        return None
    folder = Path(model).expanduser()
    return folder if bundle.is_folder(folder) and bundle.read_card(folder).kind == "bundle" else None


def _reduced(
    source: Path, target: str | Path, precision: str, calibration: Any, test: Any, columns: Mapping[str, str] | None,
    max_drop: float, runs_on: Device,
) -> BundleModel:  # fmt: skip
    from zoo import precision as reducing

    reducing.check(precision)
    if precision == "fp32":
        raise ConfigError(
            f'{source} is an exported bundle already. To reduce it, give precision="int8" and calibration=.'
        )
    bundle.check_target(Path(target))
    given = load_bundle(source)
    reducing.supported(given, max_drop, runs_on)
    rows = learning.labelled_parts(given, precision, calibration, test, columns)
    return reducing.again(source, target, reducing.Wanted(precision, *rows, max_drop, runs_on))
