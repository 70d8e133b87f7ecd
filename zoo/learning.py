"""How a model learns: which task, labels and head its data ask for, then the loop. `Model.finetune` and `search`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo import loading
from zoo import tasks as zoo_tasks
from zoo.errors import ConfigError
from zoo.modalities import make_encoder
from zoo.tasks.problems import VALUE
from zoo.training.config import TrainConfig

# Optimisers whose steps are of one size, so that one rate serves them all.
ALIKE = ("adamw", "adam", "adamw_8bit", "muon")

if TYPE_CHECKING:
    from zoo.inference import OnError
    from zoo.model import Model
    from zoo.predictor import Predictor
    from zoo.spec import ProblemType
    from zoo.training.data import Rows


def choose(config: TrainConfig | None, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a call: whole, or options over a model's own defaults."""
    if config is None:
        return TrainConfig.parse({**defaults_beside(defaults, options), **options})
    if options:
        raise ConfigError(f"Give config= or single options, not both: {', '.join(options)} came beside config=.")
    return config


def defaults_beside(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own defaults, less its rates where they would be wrong: they are AdamW's, for all of the network.

    options: what is chosen by name; the values matter for `method` and `optimizer` alone.
    """
    kept = {name: value for name, value in defaults.items() if name not in options}
    whole = options.get("method", defaults.get("method", "full")) == "full"
    optimizer = options.get("optimizer", defaults.get("optimizer", "adamw"))
    if not whole or optimizer not in ALIKE:
        kept.pop("learning_rate", None)
    if not whole or optimizer not in ALIKE or "head_lr_scale" in options:
        kept.pop("head_learning_rate", None)
    return kept


def read(
    model: Model,
    train: Any,
    val: Any,
    config: TrainConfig,
    *,
    task: str | None,
    columns: Mapping[str, str] | None,
    problem_type: ProblemType | None,
) -> tuple[Rows, Rows | None]:
    """The rows to train and to validate on."""
    from zoo.training import data

    trainable = tuple(name for name in loading.tasks_of(model.spec) if zoo_tasks.get(name).trainable)
    if not trainable:
        only = ", ".join(model.spec.tasks)
        raise ConfigError(f"{model.spec.name} is for prediction: it can do {only} alone, which nothing trains.")
    given = zoo_tasks.canonical(task, model.spec.modality) if task is not None else model.meant_task
    problem = problem_type or (model.spec.problem_type if given in (None, model.task.name) else None)
    dataset = data.read(train, tasks=trainable, task=given, columns=columns, on_error=config.on_error,
                        problem_type=problem)  # fmt: skip
    return data.hold_out(dataset, val, seed=config.seed, columns=columns, on_error=config.on_error)


def labelled(
    model: Predictor,
    given: Any,
    *,
    columns: Mapping[str, str] | None,
    on_error: OnError = "raise",
    splits: Sequence[str] = ("test", "train"),
) -> Rows:
    """Labelled rows of the model's task to measure on.

    splits: which of the data's own is used, the first that is there. Data without splits is one "train".
    """
    from zoo.training import data

    name = model.task.name
    problem = loading.problem_of(model.spec, name)
    found = data.read(given, tasks=(name,), task=name, columns=columns, on_error=on_error, problem_type=problem)
    return next(found.splits[split] for split in splits if split in found.splits)


def labelled_parts(
    model: Predictor, precision: str, calibration: Any, test: Any, columns: Mapping[str, str] | None
) -> tuple[Rows, Rows]:
    """The rows that a reduced precision is made with, and those that judge it, which are others."""
    from zoo import precision as reducing

    if calibration is None:
        raise ConfigError(
            f"precision={precision!r} is kept only if it is measured to be good enough, which takes data, labelled as "
            'for evaluate() (of embeddings: inputs alone): give calibration=. Without any, export in "fp32".'
        )
    rows = reducing.read(model, calibration, columns) or labelled(
        model, calibration, columns=columns, splits=("val", "train")
    )
    if test is None:
        return reducing.parts(rows)
    return rows, reducing.read(model, test, columns) or labelled(model, test, columns=columns)


def learn(
    model: Model,
    train: Rows,
    val: Rows | None,
    config: TrainConfig,
    *,
    labels: Sequence[str] | None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Give the model the head that the rows ask for, and fine-tune it in place."""
    from zoo import training
    from zoo.training import data

    problem = data.problem_of(train)
    if problem == "regression" and config.label_smoothing == model.spec.finetune.get("label_smoothing"):
        # A model's own default for labels says nothing about numbers.
        config = config.model_copy(update={"label_smoothing": 0.0})
    found = tuple(labels) if labels is not None else _labels_for(model, train.task, train)
    data.check(train.task, train, val, found)
    model.spec = loading.spoken(model.spec, config.src_lang, config.tgt_lang)
    spec = loading.learned(model.spec, train.task, train, config)
    if spec is not model.spec:
        model.spec, model.encoder = spec, make_encoder(spec)
        _rebuild(model, train.task, found, config.seed, problem, afresh=True)
    _rebuild(model, train.task, found, config.seed, problem)
    if config.lint:
        training.lint_before(model.task, model.encoder, train, val, config)
    writer = model.writer(config.predict_with_generate, None)
    model.history = tuple(
        training.train(model.module, model.task, model.encoder, train, val, config, on_epoch=on_epoch, writer=writer)
    )
    model.module.eval()
    model.meant = True


def _labels_for(model: Model, task: str, rows: Any) -> tuple[str, ...]:
    kind = zoo_tasks.get(task, model.spec)
    if not kind.needs_labels:
        return ()
    # A speech model keeps the vocabulary its weights were trained with; other heads answer the data's classes.
    if task == "automatic-speech-recognition" and model.task.name == task and model.labels:
        return model.labels
    if rows.target_role == "value":
        return (VALUE,)
    found = kind.labels_of(rows.targets())
    return model.labels if set(found) <= set(model.labels) and _same_network(model, task) else found


def _same_network(model: Model, task: str) -> bool:
    """Whether a task asks the network that the model has, in whatever way."""
    return loading.network_of(model.task.name) == loading.network_of(task)


def _rebuild(
    model: Model, task: str, labels: tuple[str, ...], seed: int, problem: ProblemType | None, *, afresh: bool = False
) -> None:
    """problem: of a classification; None for the other tasks."""
    from zoo.training import methods

    loading.choose_task(model.spec, task)
    spec = model.spec.evolve(labels=labels or None, problem_type=problem)
    if not afresh and _same_network(model, task) and labels == model.labels and model.has_head:
        # The same head, and what its logits mean is written down.
        model.spec = spec if labels else model.spec.evolve(problem_type=problem)
        model.task = zoo_tasks.make(task, model.spec, labels)
        return
    device = model.device
    # What an earlier run put into the body is merged, or moves along: the new head belongs to another question.
    before = methods.merged(model.module)
    module = loading.build(spec, task, None if afresh else methods.plain_state(before), seed)
    if before.adapted is not None and not afresh:
        module = loading.with_adapter(module, before.adapted.plan, methods.tensors(before))
    model.module, model.spec = module, spec
    model.task = zoo_tasks.make(task, spec, labels)
    model.to(str(device))
