"""The recipes of export/: the support table, and the container's file, as far as it runs without an engine."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

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


def test_the_recipe_exports_a_family_and_tables_its_figures(recipe: ModuleType) -> None:
    rows = list(recipe.export_all(["resnet18"]))
    assert [row.task for row in rows] == ["image-classification", "feature-extraction"]
    assert all(row.agreement == 1.0 and row.difference <= row.tolerance and not row.failure for row in rows)
    assert "| resnet18 | image-classification |" in recipe.table(rows)


def test_the_committed_table_has_every_family_and_no_failure(recipe: ModuleType) -> None:
    import zoo
    from tests.tiny import FAMILIES

    text = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    for family in FAMILIES:
        for task in zoo.info(family).tasks:
            assert f"| {family} | {task} |" in text, "run: python export/catalogue.py"
    assert "not supported" not in text


def test_the_container_file_names_what_is_there_and_needs_no_torch() -> None:
    text = (ROOT / "export" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    assert re.findall(r"/src\[(\w+)\]", text) == ["cpu"]
    assert "USER zoo" in text
