"""The hub's client against a server on this machine, in processes of their own: huggingface_hub reads its
environment once, when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.backends.conftest import BERT
from tests.hub_server import COMMIT, Hub, serve
from zoo.backends import build
from zoo.spec import ModelSpec, TextInput

LARGE = bytes(range(256)) * 98_304  # more than two of the pieces that the client writes at a time
CONFIG = {
    **BERT,
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "id2label": {"0": "bad", "1": "good"},
}


def tokenizer_json() -> bytes:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return str(Tokenizer(WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]")).to_str()).encode()


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    spec = ModelSpec(
        name="t", modality="text", tasks=("text-classification",), backend="transformers", architecture="bert",
        config=BERT, input=TextInput(max_length=64),
    )  # fmt: skip
    return dict(build(spec, task="text-classification", labels=("bad", "good"), seed=0).net.state_dict())


@pytest.fixture
def hub(state: dict[str, torch.Tensor]) -> Iterator[Hub]:
    names = sorted(state)
    half = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    index = {"weight_map": {name: file for file, part in half.items() for name in part}}
    config = json.dumps(CONFIG).encode()
    tokens = json.dumps({"model_max_length": 48}).encode()
    repos = {
        "me/tiny": {
            "config.json": config,
            "model.safetensors": save(state),
            "tokenizer.json": tokenizer_json(),
            "tokenizer_config.json": tokens,
            "folder/large.bin": LARGE,
        },
        "me/sharded": {
            "config.json": config,
            "model.safetensors.index.json": json.dumps(index).encode(),
            "vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]).encode(),
            "tokenizer_config.json": json.dumps({"tokenizer_class": "BertTokenizer"}).encode(),
            **{file: save({name: state[name] for name in part}) for file, part in half.items()},
        },
    }
    with serve(repos) as server:
        yield server


def run(code: str, home: Path, endpoint: str, **environment: str) -> Any:
    """What `code` puts into `answer`, from a fresh process whose hub is `endpoint`."""
    script = (
        "import json\nfrom zoo import hub\nfrom zoo.errors import ZooError\n"
        f"try:\n{''.join(f'    {line}' for line in code.splitlines(keepends=True))}\n"
        "except ZooError as error:\n    answer = {'error': type(error).__name__, 'message': str(error)}\n"
        "print('\\n' + json.dumps(answer))"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


FETCH = """
found = hub.fetch("me/tiny", "folder/large.bin")
answer = [str(found.path), found.revision, found.path.stat().st_size]
"""


def test_fetch_then_offline_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    path, revision, size = run(FETCH, tmp_path, hub.address)
    assert (revision, size) == (COMMIT, len(LARGE))
    assert Path(path).read_bytes() == LARGE
    asked = len(hub.log)
    assert run(FETCH, tmp_path, hub.address, HF_HUB_OFFLINE="1") == [path, revision, size]
    assert len(hub.log) == asked


def test_a_broken_connection_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.break_after = 22_000_000
    path, _, _ = run(FETCH, tmp_path, hub.address)
    assert Path(path).read_bytes() == LARGE
    ranges = [asked for method, _, asked in hub.log if method == "GET"]
    assert ranges[0] is None
    assert ranges[1] is not None
    assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 22_000_000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('hub.fetch("me/none", "model.safetensors")', ["'model.safetensors' of 'me/none'", "no such repository"]),
        ('hub.fetch("me/tiny", "model.bin")', ["no such file"]),
        ('hub.fetch("me/tiny", "model.safetensors", revision="v9")', ["at 'v9'", "no such revision"]),
        ('hub.fetch("gated/model", "config.json")', ["on its page", "HF_TOKEN"]),
        ('hub.fetch("no good/name", "config.json")', ["'config.json' of 'no good/name'"]),
        ('hub.files("me/none")', ["no such repository"]),
        ('hub.push(".", "me/tiny")', ["did not take 'me/tiny'", "hf auth login"]),
    ],
)
def test_what_the_hub_refuses_is_explained(call: str, words: list[str], hub: Hub, tmp_path: Path) -> None:
    answer = run(f"answer = str({call})", tmp_path, hub.address)
    assert answer["error"] == "WeightsUnavailable"
    advice = [] if "push" in call else ["zoo pull", "HF_ENDPOINT", "weights=None"]
    for word in [hub.address, *words, *advice]:
        assert word in answer["message"]


def test_offline_says_so(tmp_path: Path) -> None:
    answer = run(FETCH, tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert answer["error"] == "WeightsUnavailable"
    for word in ("http://127.0.0.1:9", "'me/tiny'", "HF_HUB_OFFLINE=1", "not in the cache", "zoo pull"):
        assert word in answer["message"]


def test_exists_find_and_files(hub: Hub, tmp_path: Path) -> None:
    code = """
answer = [
    hub.exists("me/tiny", "config.json"), hub.exists("me/tiny", "none.json"),
    hub.files("me/tiny"),
    hub.find("me/tiny", ("none.json", "config.json")).path.name, hub.find("me/tiny", ("none.json",)) is None,
]
"""
    names = ["config.json", "folder/large.bin", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert run(code, tmp_path, hub.address) == [True, False, names, "config.json", True]
    offline = """
answer = [
    hub.exists("me/tiny", "config.json"), hub.exists("me/tiny", "model.safetensors"), hub.exists("me/none", "a"),
    hub.find("me/tiny", ("model.safetensors", "config.json")).path.name, hub.find("me/none", ("a",)) is None,
]
"""
    assert run(offline, tmp_path, hub.address, HF_HUB_OFFLINE="1") == [True, False, False, "config.json", True]


LOAD = """
from zoo import backends
spec = backends.resolve("hf:{repo}")
state, found = backends.fetch_state(spec)
module = backends.build(found, task=found.tasks[0], labels=found.labels, state=state)
words = backends.tokenizer(found)
answer = [found.to_dict(), module.fresh_head, len(state), words.encode("hello").ids]
"""


def test_a_repository_by_its_name_then_offline(hub: Hub, tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    pulled = """
from zoo import backends
spec = backends.resolve("hf:me/tiny")
answer = sorted(path.name for path in hub.pull(spec).iterdir())
"""
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert run(pulled, tmp_path, hub.address) == names
    # Switched off by the environment, and cut off without a word.
    ways: list[dict[str, str]] = [{"HF_HUB_OFFLINE": "1"}, {}]
    answers = [run(LOAD.format(repo="me/tiny"), tmp_path, "http://127.0.0.1:9", **off) for off in ways]
    assert answers[0] == answers[1]
    spec, fresh, tensors, ids = answers[0]
    assert not fresh
    assert tensors == len(state)
    assert ids == [1]
    assert spec["name"] == "tiny"
    assert spec["weights"] == {"repo": "me/tiny", "revision": COMMIT, "file": "model.safetensors", "sha256": None}
    assert spec["labels"] == ["bad", "good"]
    assert spec["tasks"] == [
        "text-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "feature-extraction",
        "pretraining",
    ]
    assert spec["input"]["max_length"] == 48


def test_a_sharded_repository_with_an_older_tokenizer(hub: Hub, tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    spec, fresh, tensors, ids = run(LOAD.format(repo="me/sharded"), tmp_path, hub.address)
    assert spec["weights"]["file"] == "model.safetensors.index.json"
    assert not fresh
    assert tensors == len(state)
    assert ids == [2, 5, 3]


def test_importing_the_client_imports_nothing(tmp_path: Path) -> None:
    code = """
import sys
answer = [name for name in ("huggingface_hub", "torch", "transformers") if name in sys.modules]
"""
    assert run(code, tmp_path, "http://127.0.0.1:9") == []
