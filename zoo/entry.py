"""`zoo.load()` and `zoo.export()`: from a name, a folder or a checkpoint to a model, and to its bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import bundle, loading
from zoo.errors import ConfigError, missing
from zoo.loading import PRETRAINED, Source
from zoo.model import Model

if TYPE_CHECKING:
    import tokenizers

    from zoo.runtime import BundleModel
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
    precision: what predict(), embed() and evaluate() compute in: "fp32", or torch's autocast to "bf16" or "fp16", which
        is for GPUs. Fine-tuning has an option of its own; a bundle is compared with answers in fp32.
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


def export(
    model: Source | Model,
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
) -> BundleModel:
    """A bundle of a model, or of anything that `load` takes: a checkpoint folder of transformers or timm, too.

    task, labels, tokenizer: as of `load`; ConfigError beside a loaded model, which has its own.
    All others: as of `Model.export`.
    Raises what `load` and `Model.export` raise.
    """
    if isinstance(model, Model):
        if task is not None or labels is not None or tokenizer is not None:
            raise ConfigError("A loaded model has its own task, labels and tokenizer; give its name or folder instead.")
        loaded = model
    else:
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
    )
