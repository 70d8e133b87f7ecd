"""An adapter in a folder of its own: what a parameter-efficient method trained, and the head, without the body."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from zoo import backends, bundle, loading, manifest
from zoo import tasks as zoo_tasks
from zoo.errors import AdapterError, BundleError, ConfigError, SpecError
from zoo.modalities import make_encoder
from zoo.modalities.base import Encoder

if TYPE_CHECKING:
    from zoo.backends.module import ZooModule
    from zoo.model import Model
    from zoo.spec import ModelSpec


def save(module: ZooModule, card: bundle.Card, folder: str | Path) -> Path:
    """card: of the whole model. Raises ConfigError when nothing was inserted into the module."""
    if module.adapted is None:
        raise ConfigError(
            f'{card.spec.name} holds no adapter: fine-tune it with method="lora" or its kin, or use save().'
        )
    with bundle.writing(folder) as temporary:
        entry = write_tensors(module, temporary)
        bundle.write_card(temporary, structs.replace(card, kind="adapter", adapter=entry))
    return Path(folder)


def write_tensors(module: ZooModule, folder: Path) -> bundle.Adapter:
    """What was trained, into an open folder. Returns what its card has to say of it."""
    from zoo.training import methods

    trained = methods.tensors(module)
    backends.write_state(folder / bundle.ADAPTER, trained)
    return bundle.Adapter(
        method=module.adapted.plan.method,
        options=dict(module.adapted.plan.options),
        base_sha256=methods.body_digest(module),
        parameters=sum(tensor.numel() for tensor in trained.values()),
    )


def put_on(model: Model, folder: str | Path) -> None:
    """Give a model what `save` wrote, with its task, labels, head and way of reading inputs.

    Raises AdapterError when it was trained on another body than this model's, BundleError when it is damaged.
    """
    from zoo.training import methods

    path = Path(folder).expanduser()
    card, entry = _read(path)
    if model.module.adapted is not None:
        raise ConfigError(f"{model.spec.name} holds an adapter already. merge() it first, or load the base again.")
    spec = model.spec.evolve(
        labels=card.spec.labels, problem_type=card.spec.problem_type, input=card.spec.input.to_dict()
    )
    # The body is compared as it is in the network of the adapter's task: other tasks name and have other parts.
    module = _on_the_same_body(_rebuilt(model, spec, card, path), model.spec, card, path)
    plan = methods.Plan(entry.method, entry.options)
    module = methods.restored(module, plan, backends.read_state(path / bundle.ADAPTER))
    encoder = model.encoder if spec.input == model.spec.input else _reading(model.encoder, spec)
    device = str(model.device)
    labels = spec.labels if isinstance(spec.labels, tuple) else ()
    model.spec, model.encoder, model.module = spec, encoder, module
    model.task = zoo_tasks.make(card.task, spec, labels)
    model.history, model.meant = card.history, True
    model.to(device)


def _read(path: Path) -> tuple[bundle.Card, bundle.Adapter]:
    card = bundle.read_card(path)
    if card.kind != "adapter" or card.adapter is None:
        raise BundleError(f"{path} holds a {card.kind}, not an adapter that save_adapter() wrote.")
    manifest.verify(path)
    return card, card.adapter


def _rebuilt(model: Model, spec: ModelSpec, card: bundle.Card, path: Path) -> ZooModule:
    from zoo.training import methods

    loading.choose_task(spec, card.task)
    try:
        return loading.build(spec, card.task, methods.plain_state(model.module), 0)
    except SpecError as error:
        raise AdapterError(f"{_other_body(path, card)} This is {_named(model.spec)}. {error}") from error


def _on_the_same_body(module: ZooModule, spec: ModelSpec, card: bundle.Card, path: Path) -> ZooModule:
    from zoo.training import methods

    assert card.adapter is not None
    found = methods.body_digest(module)
    if found != card.adapter.base_sha256:
        raise AdapterError(
            f"{_other_body(path, card)} This is {_named(spec)}, with {found[:16]}. Load the model that the adapter was "
            "trained on."
        )
    return module


def _other_body(path: Path, card: bundle.Card) -> str:
    assert card.adapter is not None
    digest = card.adapter.base_sha256[:16]
    return f"{path} was trained on {_named(card.spec)}, whose body has the sha256 {digest}."


def _reading(encoder: Encoder, spec: ModelSpec) -> Encoder:
    """The same tokenizer under another spec's rules."""
    with tempfile.TemporaryDirectory() as folder:
        encoder.save(Path(folder))
        return make_encoder(spec, folder=Path(folder))


def _named(spec: ModelSpec) -> str:
    return f"{spec.name} ({spec.weights.repo} at {spec.weights.revision})" if spec.weights else spec.name
