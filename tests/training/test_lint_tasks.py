"""Faults that are a task's own, each planted and found: pairs, answers, summaries and translations, boxes, masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.conformance.conftest import tiny_model
from tests.training.test_lint import found, kinds
from zoo.errors import DataError

PAIRS = [({"text": f"one {i} {label}", "text_pair": f"two {i}"}, label) for i in range(12) for label in ("no", "yes")]


def pair(a: str, b: str, label: str) -> Any:
    return {"text": a, "text_pair": b}, label


def test_clean_pairs_have_nothing_to_remark() -> None:
    assert kinds(zoo.lint(PAIRS, 0.25, task="text-classification")) == {}


def test_pairs_of_equal_sides_swapped_and_repeated() -> None:
    train = [*PAIRS, pair("same", "same ", "no"), pair("two 1", "one 1 no", "no"), PAIRS[0]]
    val = [pair("two 3", "one 3 yes", "yes"), pair("new", "newer", "no"), PAIRS[4]]
    report = zoo.lint(train, val, task="text-classification")
    assert kinds(report) == {
        "duplicate-rows": "warning",
        "rows-in-both-splits": "warning",
        "equal-sides": "warning",
        "swapped-pairs": "note",
        "swapped-pairs-in-both-splits": "warning",
    }
    assert found(report, "equal-sides").rows == ("list[24]",)
    assert found(report, "swapped-pairs").rows == ("list[25] = list[2], swapped",)
    leaked = found(report, "swapped-pairs-in-both-splits")
    assert (leaked.count, leaked.rows) == (1, ("list[0] = list[7], swapped",))


CONTEXT = "Ada Lovelace wrote it in 1843. Ada was 27."


def asked(answers: Any, question: str = "who?", context: str = CONTEXT) -> dict[str, Any]:
    return {"question": question, "context": context, "answers": answers}


def test_answers_that_are_not_in_their_place() -> None:
    good = [asked({"text": ["1843"], "answer_start": [25]}, f"when {i}?") for i in range(4)]
    bad = [asked({"text": ["1843"], "answer_start": [24]}, "a"), asked("Ada", "b"), asked("Babbage", "c")]
    assert kinds(zoo.lint([*good, asked([], "why?")])) == {}
    report = zoo.lint([*good, *bad], good[:1])
    assert kinds(report) == {"answers-not-in-place": "error", "rows-in-both-splits": "warning"}
    assert found(report, "answers-not-in-place").count == 3
    assert "list[4]" in found(report, "answers-not-in-place").rows[0]
    assert "It comes at 25" in found(report, "answers-not-in-place").rows[0]


def test_answers_that_no_window_holds_and_questions_that_are_too_long() -> None:
    model = tiny_model("bert-base-cased", "question-answering")
    long = "word " * 60
    rows = [
        asked("needle", "a", f"{long} needle {long}"),
        asked(long.strip(), "b", f"begin {long}end"),
        asked("x", "c " * 100, "x " + "y " * 90),
    ]
    report = zoo.lint(rows, task="question-answering", model=model)
    assert kinds(report) == {"unreadable-rows": "error", "long-texts": "warning", "answers-cut": "warning"}
    assert found(report, "answers-cut").rows == ("list[1]",)
    assert "list[2]" in found(report, "unreadable-rows").rows[0]


def test_summaries_and_translations() -> None:
    rows = [{"text": f"a long text {i} of many words", "summary": f"text {i}"} for i in range(6)]
    assert kinds(zoo.lint(rows, task="summarization")) == {}
    faults = [
        {"text": "short", "summary": "much longer than its text"},
        {"text": "the very same", "summary": " the very same"},
        {"text": "something", "summary": " "},
    ]
    report = zoo.lint([*rows, *faults], task="summarization")
    assert kinds(report) == {"longer-summaries": "warning", "copied-targets": "warning", "empty-targets": "warning"}
    assert found(report, "longer-summaries").rows == ("list[6]",)
    assert found(report, "copied-targets").rows == ("list[7]",)
    assert found(report, "empty-targets").rows == ("list[8]",)
    translated = [{"text": f"one {i}", "translation": f"eins, und zwar {i}"} for i in range(6)]
    report = zoo.lint([*translated, {"text": "two", "translation": "two"}], task="translation")
    assert kinds(report) == {"copied-targets": "warning"}
    assert "not translated" in found(report, "copied-targets").message


def test_targets_longer_than_the_model_writes() -> None:
    model = tiny_model("t5-small", "summarization")
    rows = [{"text": f"text {i} " * 9, "summary": "word " * n} for i, n in enumerate((1, 1, 1, 12))]
    report = zoo.lint(rows, task="summarization", model=model)
    assert kinds(report) == {"long-targets": "warning"}
    assert found(report, "long-targets").rows == ("list[3]",)


def picture(folder: Path, name: str, width: int = 60, height: int = 40) -> str:
    rng = np.random.default_rng(len(list(folder.iterdir())))
    path = folder / name
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return str(path)


def boxed(folder: Path, name: str, *boxes: Any) -> dict[str, Any]:
    return {"image": picture(folder, name), "objects": [{"bbox": list(box[:4]), "category": box[4]} for box in boxes]}


def test_boxes(tmp_path: Path) -> None:
    clean = [boxed(tmp_path, f"{i}.png", (1, 2, 20, 10, "cat"), (5, 5, 55.5, 30, "cat")) for i in range(5)]
    assert kinds(zoo.lint(clean, task="object-detection")) == {}
    faults = [
        boxed(tmp_path, "outside.png", (70, 2, 20, 10, "cat")),
        boxed(tmp_path, "beyond.png", (50, 2, 20, 10, "cat")),
        boxed(tmp_path, "tiny.png", (0.1, 0.2, 0.3, 0.3, "cat")),
        boxed(tmp_path, "twice.png", (1, 2, 20, 10, "cat"), (1, 2, 20, 10, "cat")),
        boxed(tmp_path, "flat.png", (1, 2, 0, 10, "cat")),
        boxed(tmp_path, "bare.png"),
    ]
    val = [boxed(tmp_path, "dog.png", (1, 2, 20, 10, "dog"))]
    report = zoo.lint([*clean, *faults], val, task="object-detection")
    assert kinds(report) == {
        "unreadable-rows": "error",
        "unseen-labels": "error",
        "boxes-outside": "error",
        "boxes-beyond-the-border": "warning",
        "tiny-boxes": "warning",
        "duplicate-boxes": "warning",
        "images-without-objects": "note",
    }
    assert "without an area" in found(report, "unreadable-rows").rows[0]
    assert found(report, "boxes-outside").rows == ("list[5], object 0",)
    assert found(report, "boxes-beyond-the-border").rows == ("list[6], object 0",)
    assert found(report, "duplicate-boxes").rows == ("list[8], object 1",)
    assert found(report, "unseen-labels").rows == ("list[0]",)


def test_boxes_are_of_the_upright_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: 40 wide and 60 high
    image.save(tmp_path / "turned.jpg", exif=exif)
    rows = [{"image": str(tmp_path / "turned.jpg"), "objects": [{"bbox": [5, 45, 20, 12], "category": "cat"}]}]
    assert kinds(zoo.lint(rows, task="object-detection")) == {}


def masks(*values: Any, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8), np.asarray(value, dtype=np.uint8)) for value in values]


def test_masks() -> None:
    good = np.zeros((8, 9))
    good[2:5] = 1
    ignored, high = np.full((8, 9), 255), np.where(good > 0, 3, 0)
    assert kinds(zoo.lint(masks(good, good), task="image-segmentation")) == {}
    report = zoo.lint(masks(good, ignored, good * 0, good[1:]), masks(high, seed=1), task="image-segmentation")
    assert kinds(report) == {
        "mask-sizes": "error",
        "unseen-classes": "error",
        "empty-masks": "warning",
        "masks-of-one-class": "note",
    }
    assert found(report, "mask-sizes").rows == ("list[3]: 9 x 8, and its mask 9 x 7",)
    assert found(report, "unseen-classes").rows == ("list[0]: class 3",)
    assert found(report, "empty-masks").rows == ("list[1]",)
    named = zoo.lint(masks(good, high), task="image-segmentation", labels=["sky", "ground"])
    assert found(named, "unseen-classes").rows == ("list[1]: class 3",)
    assert kinds(zoo.lint(masks(good, high), task="image-segmentation")) == {}


def test_finetune_stops_at_errors_before_it_trains(tmp_path: Path) -> None:
    model = tiny_model("segformer-b0-cityscapes")
    good = np.zeros((8, 9))
    with pytest.raises(DataError, match="not of their image's size"):
        model.finetune(masks(good + 1, good, good[1:]), val=None, max_steps=1, output_dir=tmp_path, progress=False)


def test_every_kind_of_finding_is_in_the_documents() -> None:
    root = Path(zoo.__file__).parents[1]
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "zoo/training/lint").glob("*.py"))
    stated = set(re.findall(r'"((?:[a-z]+-)+[a-z]+)"', source))
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", (root / "docs/lint.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert stated == listed
    assert len(listed) >= 30
