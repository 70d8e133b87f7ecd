"""What guessing from the text so far is worth (`prompt_lookup_num_tokens`), by how much a text says again.

GPT-2 124M at its full size, of random weights, which would write nothing of interest: so it is made to write given
texts. The graph computes every step, and its logits are then exchanged for those of the next token of the text. What
is guessed right, and how long a step takes, is as with a model that writes this text.

python benchmarks/prompt_lookup.py            # some five minutes on two cores; writes results
python benchmarks/prompt_lookup.py --quick    # a tiny model, one round, writes nothing
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import shutil
import statistics
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "quality"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RESULTS, environment

import zoo
from benchmarks.speed import checkpoints
from benchmarks.speed.command import processor
from zoo.modalities.base import Array
from zoo.tasks.generation import GenerateOptions, generate

RESULT = RESULTS / "prompt_lookup.json"
ROUNDS = 5
GUESSED = GenerateOptions().prompt_lookup_num_tokens
Texts = list[tuple[Array, Array]]
# Their sources teach the tokenizer; those of _CODE and _EDITED do not.
_LEARNED = (
    "argparse", "ast", "calendar", "difflib", "email.message", "ftplib", "http.client", "inspect", "ipaddress",
    "locale", "logging", "mailbox", "optparse", "os", "pathlib", "pickle", "platform", "plistlib", "random", "socket",
    "ssl", "statistics", "string", "subprocess", "tarfile", "threading", "tokenize", "typing", "unittest.case",
    "urllib.request",
)  # fmt: skip
_CODE = ("csv", "fractions", "tempfile")
_EDITED: tuple[Callable[..., Any], ...] = (shutil.copytree, shutil.rmtree, textwrap.TextWrapper._wrap_chunks)


def tokens() -> Callable[[str], Array]:
    """Text to int64 ids: byte-level BPE of English and Python, of 50,257 tokens at most."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=50_257, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    sources = (inspect.getsource(importlib.import_module(name)) for name in _LEARNED)
    tokenizer.train_from_iterator([*(topics[name] for name in _prose()[3:]), *sources], trainer)
    return lambda text: np.array(tokenizer.encode(text).ids, dtype=np.int64)


def _prose() -> list[str]:
    """Chapters of the Python reference, the longest first."""
    return sorted(topics, key=lambda name: (-len(topics[name]), name))


def texts(new: int) -> dict[str, Texts]:
    """Of every kind prompts and what is written behind them, `new` tokens long."""
    ids = tokens()
    code = [ids(inspect.getsource(importlib.import_module(name)))[1000:] for name in _CODE]
    prose = [ids(topics[name])[200:] for name in _prose()[:3]]
    edited = [(ids(source), ids(_renamed(source))) for source in map(inspect.getsource, _EDITED)]
    rng = np.random.default_rng(0)
    return {
        "a function again, with a name changed": [(prompt[:512], text[:new]) for prompt, text in edited],
        "Python code": [(part[:512], part[512 : 512 + new]) for part in code],
        "prose": [(part[:256], part[256 : 256 + new]) for part in prose],
        "random tokens": [(rng.integers(0, 50_257, 256), rng.integers(0, 50_257, new)) for _ in range(3)],
    }


def _renamed(source: str) -> str:
    """With the name that is used the most as another."""
    common = Counter(re.findall(r"\b(?!self|return|else|elif|raise|with|from|import|while)[a-z_]{4,}\b", source))
    name = common.most_common(1)[0][0]
    return re.sub(rf"\b{name}\b", f"renamed_{name[:3]}", source)


class Given:
    """A stepper that computes as it does, and says what is to be written. steps: runs of the model."""

    checks = True

    def __init__(self, stepper: Any, text: Array, vocabulary: int) -> None:
        self._stepper, self._text, self._vocabulary = stepper, text, vocabulary
        self._place = 0
        self.steps = 0

    def start(self, input_ids: Array, attention_mask: Array) -> Array:
        return self._said(self._stepper.start(input_ids, attention_mask))

    def advance(self, tokens: Array) -> Array:
        return self._said(self._stepper.advance(tokens))

    def best(self, tokens: Array) -> Array:
        self._stepper.best(tokens)
        self.steps += 1
        self._place += 1
        return self._text[self._place - 1 : self._place]

    def check(self, tokens: Array) -> Array:
        return self._said(self._stepper.check(tokens))

    def forget(self, count: int) -> None:
        self._stepper.forget(count)
        self._place -= count

    def select(self, rows: Array) -> None:
        raise AssertionError("there is one row")

    def _said(self, computed: Array) -> Array:
        logits = np.zeros((len(computed), self._vocabulary), dtype=np.float32)
        logits[np.arange(len(logits)), self._text[self._place : self._place + len(logits)]] = 1
        self.steps += 1
        self._place += len(logits)
        return logits


def written(stepping: Callable[[], Any], prompt: Array, text: Array, guessed: int) -> tuple[float, int]:
    """Seconds, and steps."""
    options = GenerateOptions(max_new_tokens=len(text), prompt_lookup_num_tokens=guessed)
    with stepping() as stepper:
        given = Given(stepper, text, 50_257)
        start = time.perf_counter()
        (made,) = generate([prompt], given, options, eos_id=None, pad_id=0, decode=str)
        seconds = time.perf_counter() - start
    if made.tokens != tuple(text.tolist()):
        raise RuntimeError("it wrote another text than the given one")
    return seconds, given.steps


def measured(stepping: Callable[[], Any], found: Texts, rounds: int) -> dict[str, Any]:
    """Both ways over all texts, in turn."""
    seconds: dict[int, list[float]] = {0: [], GUESSED: []}
    steps: dict[int, int] = {}
    for turn in range(rounds):
        for guessed in (0, GUESSED) if turn % 2 else (GUESSED, 0):
            runs = [written(stepping, prompt, text, guessed) for prompt, text in found]
            seconds[guessed].append(sum(run[0] for run in runs))
            steps[guessed] = sum(run[1] for run in runs)
    ratios = [plain / quick for plain, quick in zip(seconds[0], seconds[GUESSED], strict=True)]
    count = sum(len(text) for _, text in found)
    return {
        "tokens": count,
        "tokens_a_step": count / steps[GUESSED],
        "times": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "seconds_without": seconds[0],
        "seconds_with": seconds[GUESSED],
    }


def table(found: dict[str, Any]) -> str:
    """As docs/tasks/text-generation.md has it."""
    lines = ["| what is written | tokens a step | bundle | torch |", "|---|---|---|---|"]
    rows = {(row["model"], row["text"]): row for row in found["rows"]}
    for kind in dict.fromkeys(row["text"] for row in found["rows"]):
        times = [rows[model, kind]["times"] for model in ("bundle", "torch")]
        shown = (f"{item['median']:.2f} ({item['min']:.2f} to {item['max']:.2f})" for item in times)
        lines.append(f"| {kind} | {rows['bundle', kind]['tokens_a_step']:.2f} | {' | '.join(shown)} |")
    return "\n".join(lines)


@contextmanager
def models(quick: bool) -> Iterator[dict[str, Callable[[], Any]]]:
    """What begins a generation, over torch and over the bundle."""
    with tempfile.TemporaryDirectory() as name:
        if quick:
            model = zoo.load("distilgpt2", weights=None, device="cpu")
        else:
            model = zoo.load(checkpoints.gpt2(Path(name) / "gpt2", tiny=False), task="text-generation", device="cpu")
        bundle = zoo.runtime.load(model.export(Path(name) / "gpt2.bundle").folder, device="cpu", verify=False)
        yield {"bundle": bundle.stepping, "torch": model.stepping}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer tokens; writes nothing")
    quick = parser.parse_args().quick
    rounds, kinds = (1, texts(12)) if quick else (ROUNDS, texts(96))
    rows = []
    with models(quick) as made:
        for name, stepping in made.items():
            # Once, so that a packed session has taken over.
            for _ in range(3):
                written(stepping, *kinds["prose"][0], 0)
            for kind, found in kinds.items():
                rows.append({"model": name, "text": kind, **measured(stepping, found, rounds)})
                row = rows[-1]
                print(f"{name}, {kind}: {row['tokens_a_step']:.2f} tokens a step, {row['times']['median']:.2f} times")
    if not quick:
        about = {"device": processor(), **environment(), "rounds": rounds, "guessed": GUESSED}
        RESULT.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
