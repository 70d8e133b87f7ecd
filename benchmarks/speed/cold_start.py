"""From the start of a process to its first answer; imports; `zoo list`. Each run is a process of its own, with compiled
bytecode: the first one, which nobody times, writes it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.text import LABELS
from benchmarks.speed.work import Setting, export, of_labels

FACTS = {
    "title": "Cold start",
    "model": "BERT-base, random weights",
    "data": "one text of 40 tokens",
}
_HERE = "benchmarks.speed.cold_start"
_PIPELINE = """
import transformers
asked = transformers.pipeline("text-classification", model={folder!r}, device="cpu")
print(sorted((item["label"], item["score"]) for item in asked({text!r}, top_k=None)), flush=True)
"""
_LOOP = """
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({folder!r})
model = AutoModelForSequenceClassification.from_pretrained({folder!r}).eval()
with torch.inference_mode():
    scores = model(**tokenizer({text!r}, return_tensors="pt")).logits.softmax(-1)[0].tolist()
print(sorted((model.config.id2label[place], score) for place, score in enumerate(scores)), flush=True)
"""
_TORCH = """
import zoo
model = zoo.load({folder!r}, task="text-classification", device="cpu")
print(sorted((item.label, item.score) for item in model.predict({text!r}).top), flush=True)
"""
_BUNDLE = """
import zoo
model = zoo.runtime.load({folder!r}{options})
print(sorted((item.label, item.score) for item in model.predict({text!r}).top), flush=True)
"""
_IMPORT = """
import time
start = time.perf_counter()
import {module}
print([("seconds", time.perf_counter() - start)])
"""
_LIST = "import sys; sys.argv = ['zoo', 'list']; from zoo.cli import main; main()"


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    folder = checkpoints.bert(setting.folder / "bert", tiny=setting.quick)
    path = setting.folder / "bert.bundle"
    reason = export(zoo.load(folder, task="text-classification", device="cpu"), path)
    text = data.text(38, 0)
    asked = {"folder": str(folder), "text": text}
    of_bundle = {"folder": str(path), "text": text}
    yield Contest(
        "the first answer", 1, "answers",
        [
            Contestant("transformers pipeline", f"{_HERE}:answer", {"code": _PIPELINE.format(**asked)}),
            Contestant("transformers by hand", f"{_HERE}:answer", {"code": _LOOP.format(**asked)}),
            Contestant("zoo, torch", f"{_HERE}:answer", {"code": _TORCH.format(**asked)}, ours=True),
            Contestant(
                "zoo.runtime", f"{_HERE}:answer", {"code": _BUNDLE.format(**of_bundle, options="")}, ours=True,
                left_out=reason,
            ),
            Contestant(
                "zoo.runtime, verify=False", f"{_HERE}:answer",
                {"code": _BUNDLE.format(**of_bundle, options=", verify=False")}, ours=True, left_out=reason,
            ),
        ],
        told=False,
    )  # fmt: skip
    yield Contest(
        "imports", 1, "imports",
        [
            Contestant(f"import {module}", f"{_HERE}:imported", {"module": module}, ours=module == "zoo")
            for module in ("numpy", "zoo", "transformers")
        ],
        told=False,
    )  # fmt: skip
    yield Contest("zoo list", 1, "lists", [Contestant("zoo list", f"{_HERE}:listed", ours=True)], told=False)


def answer(code: str) -> Ready:
    """code: prints the answer as its only line."""

    def run() -> Answer:
        line, figures = _spoken(code)
        return of_labels([dict(eval(line))], LABELS, figures)

    return Ready(run)


def imported(module: str) -> Ready:
    """The import alone, without the start of the interpreter."""

    def run() -> Answer:
        line, figures = _spoken(_IMPORT.format(module=module))
        return Answer(figures={**figures, **dict(eval(line))})

    return Ready(run)


def listed() -> Ready:
    return Ready(lambda: Answer(figures=_spoken(_LIST)[1]))


def _spoken(code: str) -> tuple[str, dict[str, float]]:
    """The first line of a new process, the seconds until it came, and what memory the process took in all."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    line = child.stdout.readline()
    seconds = time.perf_counter() - start
    child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode or not line:
        assert child.stderr is not None
        raise RuntimeError(child.stderr.read().strip().splitlines()[-1])
    return line, {"seconds": seconds, "peak_mb": usage.ru_maxrss * 1024 / 1e6}
