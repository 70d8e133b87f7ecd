"""From a name to the parts of a model: which spec, which weights, which tokenizer, which labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from zoo import backends, bundle, catalog, manifest
from zoo import tasks as zoo_tasks
from zoo.errors import BundleError, ConfigError, UnknownModel, WeightsUnavailable, suggest
from zoo.modalities import make_encoder
from zoo.modalities.base import Encoder
from zoo.modalities.byte_tokenizers import WHISPER_SPECIALS, byte_tokenizer
from zoo.modalities.tokenizing import open_tokenizer
from zoo.spec import MelInput, ModelSpec, ProblemType, TabularInput, TextInput
from zoo.tasks.classification import Classification
from zoo.tasks.labels import composed
from zoo.tasks.languages import LANGUAGES
from zoo.tasks.problems import REGRESSION, VALUE
from zoo.tasks.text2text import pair_of
from zoo.tasks.timestamps import FRAMES

if TYPE_CHECKING:
    import tokenizers
    import torch

    from zoo.backends.module import ZooModule

PRETRAINED = "pretrained"
PREFIXES = ("timm:", "torchvision:", "torchaudio:", "hf:")
Source = str | Path | ModelSpec
# Options of generation that are token ids.
_TOKEN_OPTIONS = (
    "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parts:
    """What a `Model` is made of. `spec.labels` are the labels themselves, in the order of the logits.

    meant: the task was asked for, or saved with the model; else the data to fine-tune on may choose another.
    """

    spec: ModelSpec
    task: str
    encoder: Encoder
    module: ZooModule
    history: tuple[dict[str, Any], ...] = ()
    meant: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a model was found: `folder` has its files when it is on this machine already; `saved` by `save()`."""

    spec: ModelSpec
    task: str
    folder: Path | None = None
    state: Path | None = None
    adapter: bundle.Adapter | None = None
    history: tuple[dict[str, Any], ...] = ()
    saved: bool = False


def assemble(
    source: Source,
    *,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    weights: str | Path | None = PRETRAINED,
    revision: str | None = None,
    tokenizer: str | Path | tokenizers.Tokenizer | None = None,
    seed: int | None = None,
    problem_type: ProblemType | None = None,
    input: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any] | None = None,
) -> Parts:
    """Find, read and build. Arguments and errors as in `zoo.load`."""
    found = _find(source, revision)
    if input:
        found = replace(found, spec=found.spec.evolve(input={**found.spec.input.to_dict(), **input}))
    if decoder:
        if found.spec.decoder is None:
            raise ConfigError(f"decoder={dict(decoder)!r} is for models that write, and {found.spec.name} is none.")
        found = replace(found, spec=found.spec.evolve(decoder={**found.spec.decoder.to_dict(), **decoder}))
    if task is None and problem_type is not None:
        # What was said goes with the model's classification, whatever its first task is.
        task = next((name for name in found.spec.tasks if problem_of(found.spec, name) is not None), None)
    chosen = choose_task(found.spec, task or found.task)
    # Completed first: building needs the backend's whole config, and saving writes it.
    spec = backends.complete(found.spec)
    state, spec = _state(found, spec, weights)
    builtin = weights is None and tokenizer is None and found.folder is None
    if builtin:
        spec = _fit_builtin(spec)
    words = _tokenizer(found, spec, weights, tokenizer)
    spec = _fit_vocabulary(spec, words, state)
    if problem_type is not None:
        spec = _with_problem(spec, chosen, problem_type)
    spec = spec.evolve(labels=_labels(spec, chosen, labels, default=found.task))
    encoder = make_encoder(spec, tokenizer=words, target=_target_tokenizer(found, spec, weights, tokenizer))
    module = build(spec, chosen, state, seed)
    if found.adapter is not None and found.folder is not None and weights == PRETRAINED:
        module = with_adapter(module, found.adapter, backends.read_state(found.folder / bundle.ADAPTER))
    return Parts(spec, chosen, encoder, module, found.history, meant=task is not None or found.saved)


def build(spec: ModelSpec, task: str, state: Mapping[str, torch.Tensor] | None, seed: int | None = None) -> ZooModule:
    """The module for a task; without a head while a task that needs labels has none yet."""
    labels = spec.labels if isinstance(spec.labels, tuple) else ()
    headless = zoo_tasks.get(task, spec).needs_labels and not labels
    network = "feature-extraction" if headless else network_of(task)
    return backends.build(spec, task=network, labels=labels, state=state, seed=seed)


def network_of(task: str) -> str:
    """The task that a network is built for: the task itself, or the one whose network it asks in its own way."""
    return zoo_tasks.get(task).network or task


def tasks_of(spec: ModelSpec) -> tuple[str, ...]:
    """What a model can do: the tasks of its spec, and those that ask the same networks."""
    more = (task for task in zoo_tasks.TASKS if task not in spec.tasks and network_of(task) in spec.tasks)
    return (*spec.tasks, *more)


def learned(spec: ModelSpec, task: str, rows: Any, config: Any) -> ModelSpec:
    """The spec with what only the data can say of its input: the columns of a table; the very same where it says all.

    rows: `training.data.Rows`. Raises ConfigError for options that are for tables alone.
    """
    named = bool(config.column_kinds or config.crosses)
    if not isinstance(spec.input, TabularInput):
        if named:
            raise ConfigError(f"column_kinds and crosses are for tables; {spec.name} takes {spec.input.kind}.")
        return spec
    from zoo.modalities import tabular_schema

    table = spec.input
    if named or not table.columns:
        options = {name: spec.config[name] for name in ("hash_above", "hash_buckets", "cross_buckets")}
        table = tabular_schema.learn(rows.inputs(), kinds=config.column_kinds, crosses=config.crosses, **options)
    if task == "tabular-regression" and table.target is None:
        table = structs.replace(table, target=tabular_schema.target_range(rows.targets()))
    return spec if table is spec.input else spec.evolve(input=table.to_dict())


def spoken(spec: ModelSpec, src_lang: str | None, tgt_lang: str | None) -> ModelSpec:
    """The spec with other languages as its defaults; the very same where none is named. Raises ConfigError."""
    if src_lang is None and tgt_lang is None:
        return spec
    if spec.decoder is None or "translation" not in spec.tasks:
        raise ConfigError(f"src_lang and tgt_lang are for translation; {spec.name} does: {', '.join(spec.tasks)}.")
    source, target = pair_of(spec.decoder, src_lang, tgt_lang)
    return spec.evolve(decoder={**spec.decoder.to_dict(), "source_language": source, "target_language": target})


def choose_task(spec: ModelSpec, task: str) -> str:
    zoo_tasks.get(task)
    task = zoo_tasks.canonical(task, spec.modality)
    allowed = tasks_of(spec)
    if task not in allowed:
        raise ConfigError(f"{spec.name} can't do {task!r}.{suggest(task, allowed)} It does: {', '.join(allowed)}.")
    return task


def problem_of(spec: ModelSpec, task: str) -> ProblemType | None:
    """What a classification answers with: one label where the spec says nothing. None for the other tasks."""
    kind = zoo_tasks.get(task)
    return (spec.problem_type or "single_label_classification") if issubclass(kind, Classification) else None


def _with_problem(spec: ModelSpec, task: str, problem: ProblemType) -> ModelSpec:
    if problem_of(spec, task) is None:
        raise ConfigError(f"problem_type={problem!r} goes with a classification; {task} is none.")
    if problem == REGRESSION and spec.problem_type != REGRESSION:
        # A head with one number in place of the classes.
        return spec.evolve(problem_type=problem, labels=(VALUE,))
    return spec.evolve(problem_type=problem)


def _find(source: Source, revision: str | None) -> _Found:
    if isinstance(source, ModelSpec):
        return _catalogued(source, revision)
    if isinstance(source, str) and source.startswith(PREFIXES):
        spec = backends.resolve(source, revision=revision)
        return _Found(spec, spec.tasks[0])
    text = os.fspath(source)
    # A bare name is the catalogue's, so that a folder that happens to be called "resnet50" changes nothing.
    if isinstance(source, str) and not _looks_like_path(source):
        try:
            return _catalogued(catalog.info(source), revision)
        except UnknownModel:
            if not Path(source).is_dir():
                raise
    return _folder(Path(text))


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "~")) or os.sep in text or (os.altsep is not None and os.altsep in text)


def _catalogued(spec: ModelSpec, revision: str | None) -> _Found:
    if isinstance(spec.labels, str):
        spec = spec.evolve(labels=catalog.labels(spec))
    if revision is not None and spec.weights is not None:
        spec = spec.evolve(weights={**spec.weights.to_dict(), "revision": revision})
    return _Found(spec, spec.tasks[0])


def _folder(path: Path) -> _Found:
    path = path.expanduser()
    if not path.is_dir():
        what = "a file; pass it as weights= beside a model's name" if path.is_file() else "not there"
        raise UnknownModel(
            f"{str(path)!r} is {what}. load() takes a catalogue name (zoo.list_models()), a folder that save() wrote, "
            f"a checkpoint folder of transformers or timm, or a name after one of: {', '.join(PREFIXES)}."
        )
    if not bundle.is_folder(path):
        spec, state = backends.from_folder(path)
        return _Found(spec, spec.tasks[0], path, state)
    card = bundle.read_card(path)
    if card.kind == "bundle":
        raise BundleError(f"{path} is an exported bundle: zoo.runtime.load({str(path)!r}) opens it.")
    if card.kind == "adapter":
        raise BundleError(
            f"{path} is an adapter, without the body. Load that and put it on: "
            f"zoo.load({card.spec.name!r}).load_adapter({str(path)!r}); in commands --adapter {path}."
        )
    # safetensors has no checksum of its own: a flipped bit in it is a wrong weight without a word.
    manifest.verify(path)
    return _Found(card.spec, card.task, path, path / bundle.WEIGHTS, card.adapter, card.history, saved=True)


def with_adapter(module: ZooModule, adapter: Any, state: Mapping[str, torch.Tensor]) -> ZooModule:
    """The module with what a method inserted elsewhere, and the head's tensors unless this one's is another.

    adapter: a `bundle.Adapter` or a `methods.Plan`: both name the method and its options. state: the tensors.
    Raises AdapterError when they do not fit.
    """
    from zoo.training import methods

    if module.fresh_head:
        # Another head than the one that was saved: its tensors answer other questions.
        state = {key: tensor for key, tensor in state.items() if not module.in_head(key)}
        state.update({key: tensor for key, tensor in module.net.state_dict().items() if module.in_head(key)})
    found: ZooModule = methods.restored(module, methods.Plan(adapter.method, adapter.options), state)
    return found


def _state(
    found: _Found, spec: ModelSpec, weights: str | Path | None
) -> tuple[Mapping[str, torch.Tensor] | None, ModelSpec]:
    if weights is None:
        return None, spec
    if weights != PRETRAINED:
        path = Path(weights).expanduser()
        if not path.exists():
            raise WeightsUnavailable(
                f'There is no weights file {str(path)!r}. weights= takes a file, None (random), or "pretrained".'
            )
        return backends.read_state(path), spec
    if found.state is not None:
        return backends.read_state(found.state), spec
    if spec.weights is None and isinstance(spec.input, TabularInput):
        return None, spec  # there is nothing to be had before a table was seen
    return backends.fetch_state(spec)


def _tokenizer(
    found: _Found, spec: ModelSpec, weights: str | Path | None, given: str | Path | tokenizers.Tokenizer | None
) -> tokenizers.Tokenizer | None:
    if not spec.has_tokenizer:
        return None
    if given is not None:
        return _given_tokenizer(given, spec)
    if found.folder is not None:
        return backends.tokenizer(spec, folder=found.folder)
    if weights is None:
        # Random weights know no vocabulary, and weights=None promises to touch no network.
        if isinstance(spec.input, MelInput):
            names = tuple(f"<|{code}|>" for code in LANGUAGES)
            return byte_tokenizer(style="whisper", languages=names, timestamps=spec.input.frames // FRAMES + 1)
        if spec.decoder is not None:
            tokens = spec.decoder.languages.values() if spec.decoder.language_tokens else ()
            return byte_tokenizer(style="seq2seq", languages=tuple(tokens))
        if spec.architecture == "clip":
            return byte_tokenizer(style="clip")
        plain = spec.tasks[0] in ("text-generation", "text-to-speech")
        return byte_tokenizer(style="gpt" if plain else "bert")
    if weights != PRETRAINED and (Path(weights).parent / bundle.TOKENIZER).is_file():
        return backends.tokenizer(spec, folder=Path(weights).parent)
    return backends.tokenizer(spec)


def _target_tokenizer(
    found: _Found, spec: ModelSpec, weights: str | Path | None, given: Any
) -> tokenizers.Tokenizer | None:
    if spec.decoder is None or not isinstance(spec.input, TextInput):
        return None
    if given is not None:
        path = Path(given).expanduser() if isinstance(given, (str, Path)) else None
        return backends.target_tokenizer(spec, folder=path) if path is not None and path.is_dir() else None
    if found.folder is not None:
        return backends.target_tokenizer(spec, folder=found.folder)
    if weights is None:
        return None
    if weights != PRETRAINED and (Path(weights).parent / bundle.TOKENIZER).is_file():
        return backends.target_tokenizer(spec, folder=Path(weights).parent)
    return backends.target_tokenizer(spec)


def _fit_builtin(spec: ModelSpec) -> ModelSpec:
    """An encoder-decoder spec whose special ids are those of the built-in tokenizer: random weights know no others."""
    if spec.decoder is None:
        return spec
    if isinstance(spec.input, MelInput):
        return _fit_whisper(spec)
    names = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    moved = {spec.config[name]: new for name, new in names.items() if isinstance(spec.config.get(name), int)}
    ids = {
        name: moved.get(value, value)
        for name, value in spec.config.items()
        if name.endswith("_token_id") and isinstance(value, int)
    }
    generation = {
        name: _moved(value, moved) if name in _TOKEN_OPTIONS else value
        for name, value in spec.decoder.generation.items()
    }
    decoder = {**spec.decoder.to_dict(), "generation": generation}
    return spec.evolve(config={**spec.config, **ids}, decoder=decoder)


def _fit_whisper(spec: ModelSpec) -> ModelSpec:
    """The same for Whisper, whose special tokens are found by name: only these may not come."""
    assert spec.decoder is not None
    first, last = 256, 256 + len(WHISPER_SPECIALS) + len(LANGUAGES)
    ids = {"bos_token_id": first, "pad_token_id": first, "eos_token_id": first, "decoder_start_token_id": first + 1}
    never = {"suppress_tokens": list(range(first + 1, last)), "begin_suppress_tokens": [first]}
    decoder = {**spec.decoder.to_dict(), "generation": {**spec.decoder.generation, **never}}
    return spec.evolve(config={**spec.config, **ids, **never}, decoder=decoder)


def _moved(value: Any, ids: Mapping[int, int]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_moved(item, ids) for item in value]
    return ids.get(value, value)


def _given_tokenizer(given: Any, spec: ModelSpec) -> tokenizers.Tokenizer:
    import tokenizers

    if isinstance(given, tokenizers.Tokenizer):
        return given
    path = Path(given).expanduser()
    if path.is_dir():
        return backends.tokenizer(spec, folder=path)
    if not path.is_file():
        raise ConfigError(f"There is no tokenizer at {str(path)!r}; give a tokenizer.json or a folder that has one.")
    return open_tokenizer(path)


def _fit_vocabulary(spec: ModelSpec, words: tokenizers.Tokenizer | None, state: Any) -> ModelSpec:
    """With random weights the embedding may be made as large as the tokenizer needs."""
    config = spec.config if spec.text is None else spec.config.get("text_config", {})
    if words is None or state is not None or "vocab_size" not in config:
        return spec
    size = words.get_vocab_size()
    if size <= int(config["vocab_size"]):
        return spec
    grown = {**config, "vocab_size": size}
    return spec.evolve(config=grown if spec.text is None else {**spec.config, "text_config": grown})


def _labels(spec: ModelSpec, task: str, given: Sequence[str] | None, *, default: str) -> tuple[str, ...] | None:
    if given is not None:
        labels = tuple(composed(str(label)) for label in given)
        if isinstance(given, str) or len(set(labels)) != len(labels) or not labels:
            raise ConfigError(f"labels is {given!r}; give a list of different names, in the order of the logits.")
        return labels
    if spec.problem_type == REGRESSION and issubclass(zoo_tasks.get(task), Classification):
        return (VALUE,)
    own = spec.labels if isinstance(spec.labels, tuple) else None
    # Another head than the one the weights came with answers other questions.
    return own if network_of(task) in (network_of(default), "feature-extraction") else None
