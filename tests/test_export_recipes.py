"""The recipes of export/: the support table, and the container's file, as far as it runs without an engine."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conformance.capabilities import METHODS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_catalogue", ROOT / "export" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up by name.
    sys.modules["export_catalogue"] = module
    spec.loader.exec_module(module)
    return module


def test_a_line_is_what_the_conformance_checks_found(recipe: ModuleType) -> None:
    row = recipe.one("resnet18", "image-classification")
    assert (row["agreement"], row["failure"], row["bf16"]) == (1.0, "", "yes")
    assert row["difference"] <= row["tolerance"]
    # A prefix is of attention, which a convolutional network has none of.
    assert {name for name, mark in row["methods"].items() if mark == "yes"} == set(METHODS) - {"prefix", "prompt"}
    line = recipe.table([row], {}).splitlines()[-1]
    assert line.startswith("| resnet18 | image-classification | ✓ | ✓ |")


def test_the_committed_table_is_of_its_figures_and_every_family_and_no_failure(recipe: ModuleType) -> None:
    found = json.loads(recipe.FIGURES.read_text(encoding="utf-8"))
    assert [(row["family"], row["task"]) for row in found["rows"]] == sorted(recipe.pairs()), (
        "run: python export/catalogue.py"
    )
    assert not any(row["failure"] for row in found["rows"])
    assert recipe.TABLE.read_text(encoding="utf-8") == recipe.table(found["rows"], found["versions"])


def test_the_container_file_names_what_is_there_and_needs_no_torch() -> None:
    text = (ROOT / "export" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    assert re.findall(r"/src\[(\w+)\]", text) == ["cpu"]
    assert "USER zoo" in text
