from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from tests.tasks.sources import spec
from zoo import tasks
from zoo.errors import ConfigError
from zoo.spec import TaskName
from zoo.tasks.base import Task

COLUMNS = {
    "text-classification": ("text", "label"),
    "zero-shot-classification": ("text", "label"),
    "image-classification": ("image", "label"),
    "object-detection": ("image", "objects"),
    "image-segmentation": ("image", "mask"),
    "audio-classification": ("audio", "label"),
    "token-classification": ("tokens", "tags"),
    "question-answering": ("question", "answers"),
    "text-generation": ("text", None),
    "fill-mask": ("text", None),
    "pretraining": ("text", None),
    "text-to-speech": ("text", None),
    "automatic-speech-recognition": ("audio", "text"),
    "zero-shot-image-classification": ("image", "text"),
    "zero-shot-audio-classification": ("audio", "text"),
    "feature-extraction": ("text", None),
    "tabular-classification": ("row", "label"),
    "tabular-regression": ("row", "label"),
    "summarization": ("text", "summary"),
    "translation": ("text", "translation"),
}
UNLABELLED = (
    "text-generation",
    "fill-mask",
    "pretraining",
    "text-to-speech",
    "feature-extraction",
    "tabular-regression",
    "question-answering",
    "summarization",
    "translation",
    "zero-shot-image-classification",
    "zero-shot-audio-classification",
)
METRICS = {
    "zero-shot-image-classification": "mean_recall@1",
    "zero-shot-audio-classification": "mean_recall@1",
    "image-segmentation": "mean_iou",
    "summarization": "rougeL",
    "translation": "bleu",
    "token-classification": "entity_f1",
    "question-answering": "f1",
    "object-detection": "map",
    "text-generation": "perplexity",
    "fill-mask": "perplexity",
    "tabular-classification": "log_loss",
    "tabular-regression": "rmse",
    "pretraining": "loss",
    "automatic-speech-recognition": "wer",
}


def test_every_task_of_the_spec_is_here() -> None:
    assert set(tasks.TASKS) == set(get_args(TaskName))


@pytest.mark.parametrize("name", tasks.TASKS)
def test_facts(name: str) -> None:
    kind = tasks.get(name)
    assert issubclass(kind, Task)
    assert kind.name == name
    assert kind.columns == COLUMNS[name]
    assert kind.metric == METRICS.get(name, "accuracy" if name.endswith("classification") else "")
    assert kind.higher_is_better is (kind.metric not in ("perplexity", "wer", "log_loss", "rmse", "loss"))
    assert kind.needs_labels is (name not in UNLABELLED)


def test_an_unknown_task_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'text-classification'"):
        tasks.get("text-clasification")


def test_an_unknown_option_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"no option 'topk'\. Did you mean 'top_k'"):
        tasks.get("text-classification").parse_options({"topk": 3})
    with pytest.raises(ConfigError, match="none of its own"):
        tasks.get("token-classification").parse_options({"top_k": 3})


@pytest.mark.parametrize("top_k", [0, -1, 2.5, True, "3"])
def test_top_k_is_a_positive_number(top_k: object) -> None:
    with pytest.raises(ConfigError, match="top_k"):
        tasks.get("text-classification").parse_options({"top_k": top_k})


def test_feature_extraction_takes_the_modality_s_column() -> None:
    for kind, column in (("text", "text"), ("image", "image"), ("audio", "audio")):
        assert tasks.make("feature-extraction", spec("feature-extraction", kind)).columns == (column, None)


def test_no_heavy_import() -> None:
    heavy = ("torch", "transformers", "sklearn", "jiwer", "pandas", "matplotlib", "scipy")
    code = (
        "import sys, zoo.tasks as t\n"
        "for name in t.TASKS: t.get(name)\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
