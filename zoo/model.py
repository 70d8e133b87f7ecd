"""The `Model` handle: one object over every modality, which delegates everything."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from msgspec import structs

from zoo import __version__, adapters, backends, bundle, compiler, hub, learning, loading
from zoo import tasks as zoo_tasks
from zoo.errors import ConfigError, DeviceError
from zoo.inference import Batch, BatchSize, Forward, OnError
from zoo.loading import Parts
from zoo.modalities.base import Array
from zoo.predictor import Predictor, labels_for
from zoo.tasks.sequences import SequenceStepper
from zoo.tasks.steppers import Stepper
from zoo.training.config import TrainConfig

if TYPE_CHECKING:
    import torch

    from zoo.backends.module import ZooModule
    from zoo.report import Report
    from zoo.runtime import BundleModel
    from zoo.runtime.session import Device
    from zoo.spec import Pooling, ProblemType
    from zoo.training.search import Study


@final
class Model(Predictor):
    """A model of the zoo: spec, encoder, task and torch module. Made by `zoo.load`.

    module: the torch module, for whoever wants it bare (`module.net` is the upstream library's own; weights of
        convolutions lie channels-last, so that `safetensors.torch.save_file` wants them `.contiguous()`).
    precision, compile: what torch answers in, and whether by its compiler, as of `load`.
    history: one record an epoch of the last finetune().
    meant: whether the task was asked for, or saved with the model, so that data can't choose another.
    """

    def __init__(
        self, parts: Parts, *, device: str | None = None, precision: str = "fp32", compile: bool = False
    ) -> None:
        backends.check_precision(precision)
        self.precision = precision
        self.compile = compile
        self.spec = parts.spec
        self.encoder = parts.encoder
        self.task = zoo_tasks.make(parts.task, parts.spec, labels_for(parts.task, parts.spec))
        self.module: ZooModule = parts.module
        self.history: tuple[dict[str, Any], ...] = parts.history
        self.meant = parts.meant
        self.to(device)
        if compile:
            compiler.check(self.device.type)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def accelerated(self) -> bool:
        return self.device.type != "cpu"

    @property
    def packs(self) -> bool:
        return self.module.packs and not (self.accelerated or self.compile)

    def to(self, device: str | None) -> Model:
        """Move to "cpu", "cuda", "cuda:1", ...; None is the best there is. Returns the model itself."""
        self.module.to(_device(device)).eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Array]:
        self._needs_head("predict")
        return backends.torch_forward(self.module, self.device, **self._how)(batch)

    @property
    def _how(self) -> dict[str, Any]:
        return {"precision": self.precision, "compile": self.compile}

    def _embedder(self, pooling: Pooling | None) -> Forward:
        return backends.torch_embed(self.module, self.device, pooling=pooling, **self._how)

    def _state(self) -> Any:
        import torch

        # One number of each parameter: a step changes some, and fused optimisers don't count what they write.
        found = torch.stack([parameter.detach().flatten()[-1].float() for parameter in self.module.parameters()])
        return id(self.module), found.cpu().numpy().tobytes()

    def stepping(self) -> AbstractContextManager[Stepper]:
        return backends.stepping(self.module, self.device, **self._how)

    def sequence_stepper(self) -> SequenceStepper:
        return backends.sequence_stepper(self.module, precision=self.precision)

    def finetune(
        self,
        train: Any,
        val: Any = 0.1,
        *,
        task: str | None = None,
        labels: Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        problem_type: ProblemType | None = None,
        config: TrainConfig | None = None,
        **options: Any,
    ) -> Model:
        """Fine-tune on the user's data and return the model itself, with the best epoch's weights.

        train: a class folder, a table or CoNLL file, a data frame, a Hugging Face dataset, a list of pairs, ...
            (docs/data.md).
        val: the same, a fraction to hold out (stratified), or None. A `val` split inside `train` comes first.
        task, labels: read from the data when not given; the head is rebuilt when they are new.
        columns: what the data calls the task's columns, such as {"text": "review", "label": "stars"}.
        problem_type: of a classification, by transformers' names: "single_label_classification",
            "multi_label_classification" or "regression". When not given: the model's own; else targets that are lists
            are several labels, and numbers of which one is not whole are values.
        config, options: a whole `zoo.TrainConfig`, or its fields one by one.
        """
        chosen = learning.choose(config, self.spec.finetune, options)
        rows = learning.read(self, train, val, chosen, task=task, columns=columns, problem_type=problem_type)
        learning.learn(self, *rows, chosen, labels=labels)
        return self

    def search(
        self,
        train: Any,
        val: Any = 0.1,
        *,
        space: Mapping[str, Any],
        trials: int = 20,
        metric: str | None = None,
        prune: bool = True,
        timeout: float | None = None,
        folder: str | Path | None = None,
        cluster: str | None = None,
        task: str | None = None,
        labels: Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        problem_type: ProblemType | None = None,
        **options: Any,
    ) -> Study:
        """Fine-tune copies with options out of a space, and return the study. The model itself stays as it is.

        train, val, task, labels, columns, problem_type: as for `finetune`; there must be validation data.
        space: options of finetune() by name, each a list of choices, `[8, 16, 32]`; a range `(1e-5, 1e-3)`, on a
            logarithmic scale where it spans ten times or more; or `{"low": 0.0, "high": 0.3, "step": 0.1}`.
        trials: how many, those of an earlier call with the same `folder` among them.
        metric: of the validation data; the task's own when None. "val_loss" is one, too.
        prune: stop a trial whose epoch is worse than the median of the others' (on a cluster: Ray's median rule).
        timeout: seconds after which no new trial begins.
        folder: keeps the study file; the same call goes on after a crash, an interrupted trial from its checkpoint.
        cluster: "local", "auto" or "ray://...": trials side by side by Ray Tune, each with a GPU if the model has one.
        options: the other options of finetune(), the same in every trial.

        `model.finetune(train, **study.best.options)` then makes the model. Options are proposed by Optuna's TPE, on a
        cluster at random. Raises ConfigError, DataError, MissingDependency.
        """
        from zoo.training import search as searching

        fixed = {**learning.defaults_beside(self.spec.finetune, {**space, **options}), **options}
        parsed = searching.parse_space(space, options)
        config = TrainConfig.parse(fixed)
        rows, val_rows = learning.read(self, train, val, config, task=task, columns=columns, problem_type=problem_type)
        plan = searching.make_plan(
            parsed, fixed, rows, val_rows, self.spec.name,
            trials=trials, metric=metric, prune=prune, timeout=timeout, folder=folder,
        )  # fmt: skip

        def attempt(given: Mapping[str, Any], on_epoch: Callable[[dict[str, Any]], None]) -> None:
            settings = TrainConfig.parse({**given, "progress": False, "lint": False})
            learning.learn(self._copy(), rows, val_rows, settings, labels=labels, on_epoch=on_epoch)

        return searching.search(attempt, plan, cluster=cluster, gpu=self.accelerated)

    def evaluate(
        self,
        test: Any,
        *,
        columns: Mapping[str, str] | None = None,
        batch_size: BatchSize = "auto",
        on_error: OnError = "raise",
        predict_with_generate: bool = True,
        generation: Mapping[str, Any] | None = None,
    ) -> Report:
        """Measure on labelled data, given as to `finetune`; a `test` split inside it is the one used.

        Metrics are counted as rows stream by. on_error="return" leaves unreadable rows out and lists them in
        `report.skipped`. predict_with_generate: measure summaries and translations by generated texts too (ROUGE,
        BLEU); False counts the loss alone, which is quicker. generation: predict()'s options of that; greedy if None.
        """
        from zoo import training

        self._needs_head("evaluate")
        name = self.task.name
        rows = learning.labelled(self, test, columns=columns, on_error=on_error)
        named = {key: value for key, value in (generation or {}).items() if key in ("src_lang", "tgt_lang")}
        spec = loading.spoken(self.spec, **{"src_lang": None, "tgt_lang": None, **named})
        report = training.evaluate(
            self.module,
            self.task if spec is self.spec else zoo_tasks.make(name, spec, self.labels),
            self.encoder,
            rows,
            batch_size=batch_size,
            device=str(self.device),
            on_error=on_error,
            history=self.history,
            writer=self.writer(predict_with_generate, generation),
            call=backends.torch_call(self.module, self.device, **self._how),
            packs=self.packs,
        )
        # Rows that were left out when reading were the user's too.
        return replace(report, skipped=(*rows.skipped, *report.skipped))

    def save(self, folder: str | Path) -> Path:
        """Write safetensors, `zoo.yaml` and the tokenizer; `zoo.load(folder)` is equal to this model.

        What fine-tuning with `method="lora"` and its kin learned is merged into the weights; what can't be merged
        (bottlenecks, prompts) stands beside them.
        """
        from zoo.training import methods

        module = methods.merged(self.module)
        with bundle.writing(folder) as temporary:
            backends.write_state(temporary / bundle.WEIGHTS, methods.plain_state(module))
            adapter = adapters.write_tensors(module, temporary) if module.adapted is not None else None
            self.encoder.save(temporary)
            bundle.write_card(temporary, structs.replace(self._card(), adapter=adapter))
        return Path(folder)

    def save_adapter(self, folder: str | Path) -> Path:
        """Write what a parameter-efficient method trained, and the head: some megabytes, without the body.

        `zoo.load(base).load_adapter(folder)` gives this model again.
        Raises ConfigError for a model that was not fine-tuned in such a way.
        """
        return adapters.save(self.module, self._card(), folder)

    def load_adapter(self, folder: str | Path) -> Model:
        """Put on what `save_adapter` wrote, with its task, labels and head. Returns the model itself.

        Raises AdapterError when it was trained on another body than this model's, BundleError when it is damaged.
        """
        adapters.put_on(self, folder)
        return self

    def merge(self) -> Model:
        """Put what a parameter-efficient method learned into the weights, for good. Returns the model itself.

        Raises ConfigError for methods that can't be merged: "adapter", "prefix", "prompt".
        """
        from zoo.training import methods

        methods.merge(self.module)
        return self

    def push_to_hub(self, repo: str, *, private: bool = True) -> str:
        """Save and upload to a repository of the hub. Returns its address."""
        with tempfile.TemporaryDirectory() as temporary:
            return hub.push(self.save(Path(temporary) / "model"), repo, private=private)

    def export(
        self,
        target: str | Path,
        *,
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
        """Export to ONNX with everything that serving needs, checked against this model, or raise ParityError.

        precision: "fp32"; "int8", "fp16" or "bf16", which are kept if they are faster than fp32 for certain and
            lose no more than `max_drop`, else QualityError; or "auto", the fastest of all that pass.
        calibration: labelled data, as for evaluate(), that a reduced precision is made with; of embeddings inputs
            alone, as a list or a folder (docs/precision.md).
        test: the same, to judge on; when None, half of `calibration`, which is then used for nothing else.
        columns: what the data calls the task's columns.
        max_drop: of the task's metric, or of the mean cosine of embeddings with those of fp32; of perplexity, RMSE and
            others without an upper bound, a share of fp32's value.
        runs_on: "cpu" or "cuda": where the bundle will run, and its quality and speed are measured.
        samples: raw inputs, as for predict(), to compare on; built-in ones when None.
        tolerance: allowed difference of any output, times the larger of 1 and the largest number in it.
        draft: whether a large language model in fp32 gets an int8 copy of its matrices, which guesses its next tokens
            on a CPU: the same text in less time, and a fifth more bytes.
        Returns the bundle, opened on the CPU; its figures are in `bundle.card.parity` and `bundle.card.quality`.
        Raises ConfigError, too, for a network that ONNX lacks an operator for.
        """
        from zoo import exporting
        from zoo import precision as reducing

        self._needs_head("export")
        reducing.check(precision)
        from zoo.training import methods

        module = methods.merged(self.module)
        module = module if self.device.type == "cpu" else copy.deepcopy(module).to("cpu")
        reference = Model(Parts(self.spec, self.task.name, self.encoder, module, self.history), device="cpu")
        if precision == "fp32":
            if calibration is not None or test is not None:
                raise ConfigError('fp32 needs no data. Leave calibration= and test= out, or give precision="int8".')
            return exporting.export(reference, module, target, samples=samples, tolerance=tolerance, draft=draft)
        reducing.supported(reference, max_drop, runs_on)
        rows = learning.labelled_parts(self, precision, calibration, test, columns)
        wanted = reducing.Wanted(precision, *rows, max_drop, runs_on)
        return reducing.export(reference, module, target, wanted, samples=samples, tolerance=tolerance, draft=draft)

    def _copy(self) -> Model:
        """Another model with the same weights."""
        parts = Parts(self.spec, self.task.name, self.encoder, copy.deepcopy(self.module), self.history, self.meant)
        return Model(parts, device=str(self.device), **self._how)

    def __repr__(self) -> str:
        head = f", {len(self.labels)} labels" if self.labels else ""
        return f"<Model {self.spec.name!r}: {self.task.name}{head}, on {self.device}>"

    @property
    def meant_task(self) -> str | None:
        """The task that was asked for; None lets the data choose, as for a bare encoder, which has no targets."""
        return self.task.name if self.meant and self.task.trainable else None

    @property
    def has_head(self) -> bool:
        return bool(self.labels) or not self.task.needs_labels

    def _needs_head(self, verb: str) -> None:
        if not self.has_head:
            raise ConfigError(
                f"{self.spec.name} has no labels for {self.task.name} yet, so it can't {verb}. "
                "Fine-tune it first, or give load() the labels."
            )

    def _card(self) -> bundle.Card:
        return bundle.Card(
            kind="model",
            zoo=__version__,
            task=self.task.name,  # type: ignore[arg-type]
            spec=self.spec,
            history=self.history,
        )


def _device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"device={name!r} can't be used ({error}). `zoo doctor` looks for the reason.") from error
    return device


# help() and editors show the real options, which stand once, as the fields of TrainConfig.
def _show_options() -> None:
    shown = inspect.signature(Model.finetune)
    own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    fields = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
        for name, field in TrainConfig.model_fields.items()
    ]
    Model.finetune.__signature__ = shown.replace(parameters=[*own, *fields])  # type: ignore[attr-defined]


_show_options()
