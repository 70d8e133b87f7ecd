"""What the documents say exists."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

import zoo
from zoo import errors
from zoo.runtime.serve.settings import Limits
from zoo.spec import TASK_ALIASES
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("export/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_example_compiles_and_names_real_models(page: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        compile(code, str(page), "exec")
        for name in re.findall(r'zoo\.(?:load|info)\("([a-z0-9.-]+)"', code):
            assert name in zoo.list_models() or name in ("tagger", "flowers"), f"{page.name} loads {name!r}"


def test_every_option_every_error_and_every_task_has_its_line() -> None:
    finetuning = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")
    for name, field in TrainConfig.model_fields.items():
        assert f"| `{name}` | `{field.default!r}` | {field.description} |" in finetuning
    serving = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    for name, field in Limits.model_fields.items():
        assert f"| `--{name.replace('_', '-')}` | `{field.default!r}` | {field.description} |" in serving
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    public = [n for n, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ZooError)]
    for name in public:
        assert f"`{name}`" in page or name == "ZooError", f"docs/errors.md lacks {name}"
    for task in (*TASKS, *TASK_ALIASES):
        assert (ROOT / "docs" / "tasks" / f"{task}.md").is_file()
    catalogue = set(zoo.list_models())
    assert catalogue, "the catalogue is empty"


def test_every_error_is_also_the_builtin_its_page_says() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, flags=re.MULTILINE)
    assert len(rows) > 10
    for name, parent in rows:
        kind = getattr(errors, name)
        builtin = getattr(errors, parent, None) or getattr(__import__("builtins"), parent)
        assert issubclass(kind, builtin), f"{name} is no {parent}"


def test_the_readme_quotes_the_measured_figures_and_no_others() -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "main_job_table.py"))
    found = json.loads(module["RESULTS"].read_text(encoding="utf-8"))
    assert module["table"](found) in (ROOT / "README.md").read_text(encoding="utf-8")
    assert {row["task"] for row in found["rows"]} == {
        "token-classification",
        "image-classification",
        "audio-classification",
    }
    assert all(row["parity_passed"] for row in found["rows"])


def _facts(row: str) -> list[str]:
    """What a table's row says in any language: links, code, names with capitals inside, figures."""
    code = re.findall(r"`[^`]+`|\]\([^)]+\)", row)
    plain = re.sub(r"`[^`]+`|\]\([^)]+\)", " ", row)
    return sorted(code) + sorted(re.findall(r"[A-Za-z0-9]*[A-Z0-9][A-Za-z0-9.@%-]*[A-Z0-9%][A-Za-z0-9-]*", plain))


def test_the_chinese_readme_says_what_the_readme_says() -> None:
    """Every table has the same rows with the same facts, and every document is linked."""
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md")]
    tables = [[line for line in page.splitlines() if line.startswith("|")] for page in pages]
    for english, chinese in zip(*tables, strict=False):
        assert _facts(english) == _facts(chinese), f"README.zh.md says {chinese!r} where README.md says {english!r}"
    assert len(tables[0]) == len(tables[1]), "README.md and README.zh.md have tables of different lengths"
    links = [set(re.findall(r"\]\(([^)]+)\)", page)) for page in pages]
    assert links[0] - {"README.zh.md"} <= links[1]
    commands = [re.findall(r"^(?:make|pip) .*?(?=\s+#)", page, flags=re.MULTILINE) for page in pages]
    assert commands[0] == commands[1]


def test_the_page_of_quality_is_made_of_the_measured_figures() -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "quality" / "page.py"))
    found = module["results"]()
    assert set(found) <= set(module["TITLES"])
    assert module["PAGE"].read_text(encoding="utf-8") == module["page"](found), "run: python benchmarks/quality/page.py"


def test_the_page_of_bundles_has_the_measured_operators() -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "graph_operators.py"))
    result = json.loads(module["RESULT"].read_text(encoding="utf-8"))
    assert [model["model"] for model in result["models"]] == list(module["MODELS"])
    assert module["table"](result) in (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")


def test_the_page_of_methods_is_made_of_the_measured_figures() -> None:
    module = runpy.run_path(str(ROOT / "benchmarks" / "finetune_methods.py"))
    result = json.loads(module["RESULT"].read_text(encoding="utf-8"))
    assert {name: list(methods) for name, methods in result["models"].items()} == {
        name: list(methods) for name, methods in module["WORK"].items()
    }
    assert module["PAGE"].read_text(encoding="utf-8") == module["page"](result), (
        "run: python benchmarks/finetune_methods.py"
    )


def test_the_page_of_precision_quotes_the_measured_figures() -> None:
    page = (ROOT / "docs" / "precision.md").read_text(encoding="utf-8")
    cases = json.loads((ROOT / "benchmarks" / "results" / "precision.json").read_text(encoding="utf-8"))["cases"]
    for case in cases.values():
        megabytes = f"{case['bytes_before'] / 1e6:.1f} -> {case['bytes_after'] / 1e6:.1f}"
        row = [f"{case['before']:.3f}", f"{case['after']:.3f}", f"{case['speed']:.2f}", megabytes]
        assert f"| {' | '.join(row)} | {len(case['left_out'])} operators |" in page


def test_the_page_of_serving_quotes_the_measured_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    module = runpy.run_path(str(ROOT / "benchmarks" / "serving_streams.py"))
    found = json.loads(module["RESULT"].read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    assert module["table"](found) in page
    # "All texts were the same."
    assert {contest["texts the same"] for contest in found["contests"]} == {1.0}


def test_the_page_of_generation_quotes_the_measured_figures() -> None:
    bundle = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    pages = {
        "draft": bundle,
        "shortlist": bundle,
        "cache": (ROOT / "docs" / "tasks" / "text-generation.md").read_text(encoding="utf-8"),
    }
    found = json.loads((ROOT / "benchmarks" / "results" / "generation_cache.json").read_text(encoding="utf-8"))
    for row in found["rows"]:
        assert row["texts_the_same"] == row["prompts"]
        for what, times in row["times_as_quick"].items():
            digits = 1 if what == "cache" else 2
            median, least, most = (f"{times[key]:.{digits}f}" for key in ("median", "min", "max"))
            assert re.search(rf"{median} times[^(]*\({least} to {most}\)", pages[what]), what


def test_the_page_of_performance_quotes_what_bfloat16_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    module = runpy.run_path(str(ROOT / "benchmarks" / "bfloat16.py"))
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for path in (module["RESULT"], *module["OTHERS"].values()):
        assert module["table"](json.loads(path.read_text(encoding="utf-8"))) in page, path.name


def test_the_page_of_generation_quotes_what_guessing_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "quality"))
    module = runpy.run_path(str(ROOT / "benchmarks" / "prompt_lookup.py"))
    page = (ROOT / "docs" / "tasks" / "text-generation.md").read_text(encoding="utf-8")
    assert module["table"](json.loads(module["RESULT"].read_text(encoding="utf-8"))) in page
