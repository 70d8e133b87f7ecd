"""Importing does nothing heavy, and the serving half works where torch can't be imported."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "torchaudio", "transformers", "timm", "accelerate", "peft", "datasets", "onnxruntime")
BLOCK = f"import sys\nfor name in {HEAVY[:-1]}: sys.modules[name] = None\n"
# What imports torch at its top, or what is built on that.
TORCH_FLOORS = ("zoo.capturing", "zoo.backends.", "zoo.training.")
LIGHT_TRAINING = ("zoo.training.config", "zoo.training.data")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(statement: str, names: tuple[str, ...]) -> list[str]:
    return run(f"import sys\n{statement}\nprint(*(name for name in {names} if name in sys.modules))").split()


def serving_modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(zoo.__path__, "zoo.", onerror=lambda name: None)]
    return [name for name in found if not name.startswith(TORCH_FLOORS) or name.startswith(LIGHT_TRAINING)]


def test_import_zoo_loads_nothing() -> None:
    heavy = (*HEAVY, "numpy", "pydantic", "msgspec", "yaml", "PIL", "tokenizers", "huggingface_hub", "typer", "rich")
    assert loaded_by("import zoo", heavy) == []


@pytest.mark.parametrize(
    "statement", ["zoo.list_models()", "zoo.info('resnet50')", "zoo.TrainConfig()", "zoo.ZooError"]
)
def test_looking_at_the_catalogue_and_options_needs_no_arrays(statement: str) -> None:
    assert loaded_by(f"import zoo\n{statement}", (*HEAVY, "numpy", "tokenizers", "huggingface_hub")) == []


@pytest.mark.parametrize("statement", ["zoo.verify", "zoo.runtime.load"])
def test_hashing_begins_before_anything_heavy_is_imported(statement: str) -> None:
    heavy = (*HEAVY, "numpy", "pydantic", "msgspec", "yaml", "PIL", "tokenizers", "huggingface_hub")
    assert loaded_by(f"import zoo\n{statement}", heavy) == []


@pytest.mark.parametrize("statement", ["import zoo.runtime.model", "import zoo; zoo.list_models()"])
def test_what_is_read_from_files_needs_no_pydantic(statement: str) -> None:
    """It takes as long to import as NumPy, and a first answer would wait for it."""
    assert loaded_by(statement, ("pydantic",)) == []


def test_a_command_waits_for_no_other_ones_options() -> None:
    statement = """
import zoo.cli, contextlib, io
sys.argv = ["zoo", "list", "bert*"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
    zoo.cli.main()
assert "bert-base-uncased" in out.getvalue()
"""
    others = ("zoo.cli.learning", "zoo.cli.serving", "zoo.cli.bundles", "zoo.training.config", "zoo.doctor")
    assert loaded_by(statement, (*HEAVY, "numpy", *others)) == []


def test_the_serving_half_and_the_command_import_without_torch() -> None:
    modules = serving_modules()
    assert {"zoo.runtime.model", "zoo.tasks.words", "zoo.modalities.text", "zoo.training.data"} <= set(modules)
    assert {"zoo.hub", "zoo.report", "zoo.parity", "zoo.cli.app", "zoo.doctor.checks", "zoo.entry"} <= set(modules)
    imports = "\n".join(f"import {name}" for name in modules)
    assert run(f"{BLOCK}{imports}\nprint('fine')") == "fine"


def test_everything_promised_is_there() -> None:
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    assert set(zoo.__all__) <= set(dir(zoo))
    assert issubclass(zoo.ParityError, zoo.ZooError)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        zoo.lode  # noqa: B018


def test_load_without_torch_says_what_to_install() -> None:
    code = f"{BLOCK}import zoo\ntry: zoo.load('resnet50', weights=None)\nexcept zoo.MissingDependency as e: print(e)"
    assert 'pip install "polyzoo[train]"' in run(code)


def test_importing_touches_no_logger_filter_or_variable() -> None:
    code = """
import logging, os, sys, warnings
def state():
    return dict(os.environ), list(warnings.filters), logging.root.level, list(logging.root.handlers)
before = state()
import zoo, zoo.cli.learning, zoo.cli.serving, zoo.cli.bundles, zoo.catalog
import zoo.training.config  # NumPy, further down, sets filters of its own
print(before == state())
"""
    assert run(code) == "True"


_SEEN = """
import contextlib, os, sys
class Seen:
    def find_spec(self, name, *given):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_THREAD_TIMEOUT"))
sys.meta_path.insert(0, Seen())
"""
_TOLD = "\nprint(os.environ.get('OPENBLAS_THREAD_TIMEOUT'))"


@pytest.mark.parametrize("asked", ["zoo.load", "zoo.Index", "zoo.runtime.load('.', verify=False)"])
def test_numpy_is_imported_with_threads_that_soon_sleep(asked: str) -> None:
    """They would take a core from a first answer. What the process starts later is told nothing of it."""
    code = f"{_SEEN}import zoo\nwith contextlib.suppress(zoo.ZooError): {asked}{_TOLD}"
    assert run(code).split() == ["22", "None"]
    assert run(f"import os\nos.environ['OPENBLAS_THREAD_TIMEOUT'] = '9'\n{code}").split() == ["9", "9"]


def test_the_command_has_such_threads_in_its_workers_too() -> None:
    code = (
        "import zoo.cli\nsys.argv = ['zoo', 'info', 'resnet50']\nwith contextlib.suppress(SystemExit): zoo.cli.main()"
    )
    assert run(f"{_SEEN}{code}{_TOLD}").splitlines()[-1] == "22"
