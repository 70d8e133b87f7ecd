"""What a checkpoint of an encoder-decoder model of text says of its decoder: tasks, defaults, prefixes, languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.spec import Decoder

KINDS = ("t5", "mt5", "umt5", "bart", "mbart", "marian", "m2m_100", "pegasus")
TASKS = ("summarization", "translation")
_TRANSLATE = ("marian", "mbart", "m2m_100")
_MADE = ("ForConditionalGeneration", "MTModel")
# By the same names here and there.
_SAME = (
    "num_beams", "length_penalty", "early_stopping", "no_repeat_ngram_size", "repetition_penalty", "do_sample",
    "temperature", "top_k", "top_p", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens",
    "begin_suppress_tokens", "max_new_tokens", "min_new_tokens",
)  # fmt: skip
_PAIR = re.compile(r"translation_([a-z]+)_to_([a-z]+)")
_WORDS = re.compile(r"translate (\w+) to (\w+): ")
# Tokens of languages as M2M100, mBART-50 and NLLB write them.
_LANGUAGE = re.compile(r"__([a-z]+)__|[a-z]{2}_[A-Z]{2}|[a-z]{3}_[A-Z][a-z]{3}")
_RELATIVE = 512  # T5 has no table of positions: what it was trained on


def writes(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint is of a model that writes texts: its body, or that with another head, is not."""
    made = [str(name) for name in config.get("architectures") or ()]
    return config.get("model_type") in KINDS and (not made or any(name.endswith(_MADE) for name in made))


def tasks(config: Mapping[str, Any]) -> list[str]:
    """The first is what the checkpoint was made for, as far as it says so."""
    said = [str(name).split("_")[0] for name in config.get("task_specific_params") or {}]
    first = next((name for name in said if name in TASKS), None)
    if first is None:
        first = "translation" if config["model_type"] in _TRANSLATE else "summarization"
    return [first, *(task for task in TASKS if task != first)]


def decoder(config: Mapping[str, Any], full: Any, read: Callable[[str], Mapping[str, Any]]) -> Decoder:
    """full: upstream's configuration. read: a small file of the checkpoint, as `files.Read`."""
    positions = getattr(full, "max_position_embeddings", None)
    longest = positions if isinstance(positions, int) else int(config.get("n_positions", _RELATIVE))
    spoken = _languages(read) if config["model_type"] in ("mbart", "m2m_100") else {}
    said = read("tokenizer_config.json")
    if spoken:
        codes = {token: code for code, token in spoken.items()}
        pair = [codes.get(str(said.get(name)), said.get(name)) for name in ("src_lang", "tgt_lang")]
        source, target = (code if code in spoken else None for code in pair)
        words: dict[str, str] = {}
    else:
        words, spoken, source, target = _prefixes(config)
    return Decoder(
        max_length=longest,
        generation=generation(config, read("generation_config.json"), longest),
        prefixes=words,
        languages=spoken,
        language_tokens=bool(spoken) and not words,
        source_language=source,
        target_language=target,
    )


def generation(config: Mapping[str, Any], own: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """The model's own options of predict(): its generation_config.json, or where older checkpoints have them.

    Upstream's max_length and min_length count the token that the decoder begins with.
    """
    task = tasks(config)[0]
    params = config.get("task_specific_params") or {}
    of_task: Mapping[str, Any] = next((params[name] for name in params if str(name).startswith(task)), {})
    said = {**config, **of_task, **own}
    found = {name: said[name] for name in _SAME if said.get(name) is not None}
    for name, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        if isinstance(said.get(name), int) and new not in found:
            found[new] = max(said[name] - 1, 0)
    if not found.get("max_new_tokens"):
        found.pop("max_new_tokens", None)
    elif found["max_new_tokens"] >= longest:
        found["max_new_tokens"] = longest - 1
    return found


def _languages(read: Callable[[str], Mapping[str, Any]]) -> dict[str, str]:
    """Code -> token, in the order of the ids."""
    listed: list[Any] = []
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        data = read(name)
        for key in ("additional_special_tokens", "extra_special_tokens"):
            value = data.get(key)
            listed += list(value.values() if isinstance(value, Mapping) else value or ())
    tokens = [str(item.get("content")) if isinstance(item, Mapping) else str(item) for item in listed]
    found = [match for match in map(_LANGUAGE.fullmatch, dict.fromkeys(tokens)) if match is not None]
    return {match.group(1) or match.group(0): match.group(0) for match in found}


def _prefixes(config: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str], str | None, str | None]:
    """T5's: prefixes by task, the languages' words by code, and the first pair of languages."""
    prefixes: dict[str, str] = {}
    languages: dict[str, str] = {}
    first: tuple[str | None, str | None] = (None, None)
    for name, options in (config.get("task_specific_params") or {}).items():
        text = str(options.get("prefix") or "") if isinstance(options, Mapping) else ""
        pair, words = _PAIR.fullmatch(str(name)), _WORDS.fullmatch(text)
        if pair and words:
            languages.update(zip(pair.groups(), words.groups(), strict=True))
            prefixes["translation"] = "translate {source} to {target}: "
            first = (pair.group(1), pair.group(2)) if first == (None, None) else first
        elif name in TASKS and text:
            prefixes[str(name)] = text.replace("{", "{{").replace("}", "}}")
    return prefixes, languages, *first
