"""Checkpoint folders and weights of somebody else: nothing in them is run, nothing outside is read."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import zoo
from zoo.backends import read_state
from zoo.errors import SpecError, UnsafeWeights, WeightsUnavailable, ZooError
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.tokenizing import save_tokenizer

TINY = {
    "model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 300, "max_position_embeddings": 32,
    "id2label": {"0": "no", "1": "yes"},
}  # fmt: skip


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.marker),))


def header(entries: Any, data: bytes = b"", *, size: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(*shape: Any, dtype: str = "F32", offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


SAFETENSORS: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "a header beyond the end": header({}, size=1 << 20),
    "a header of four exabytes": header({}, size=1 << 62),
    "a header of all bits": header({}, size=(1 << 64) - 1),
    "a header that is a list": header([]),
    "a header that is a number": header(3),
    "a header that is no JSON": header(b"{" * 20),
    "deep lists": header(b"[" * 100_000),
    "deep mappings": header(b'{"a":' * 100_000),
    "not UTF-8": header(b"\xff\xfe{}"),
    "an unknown dtype": header(tensor(4, dtype="EVIL"), bytes(16)),
    "a shape of a petabyte": header(tensor(1 << 48), bytes(16)),
    "a product beyond 64 bits": header(tensor(1 << 40, 1 << 40), bytes(16)),
    "a product of zero modulo 64 bits": header(tensor(1 << 32, 1 << 32, offsets=(0, 0))),
    "a negative side": header(tensor(-4), bytes(16)),
    "sides that are texts": header(tensor("4"), bytes(16)),
    "offsets beyond the end": header(tensor(4, offsets=(0, 1 << 40)), bytes(16)),
    "offsets in reverse": header(tensor(4, offsets=(16, 0)), bytes(16)),
    "negative offsets": header(tensor(4, offsets=(-16, 0)), bytes(16)),
    "three offsets": header(tensor(4, offsets=(0, 8, 16)), bytes(16)),
    "more data than said": header(tensor(4), bytes(64)),
    "less data than said": header(tensor(4), bytes(8)),
    "a hole": header(tensor(4, offsets=(16, 32)), bytes(32)),
    "two in one place": header({**tensor(4), "v": tensor(4)["w"]}, bytes(16)),
    "a pickle": pickle.dumps({"w": 1}),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_hostile_safetensors(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(SAFETENSORS[name])
    with pytest.raises((WeightsUnavailable, SpecError)):
        read_state(path)


def zipped(path: Path, **files: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


PICKLES: dict[str, Callable[[Path, Path], None]] = {
    "a call": lambda path, marker: path.write_bytes(pickle.dumps({"w": Evil(marker)})) and None,
    "a call of protocol 0": lambda path, marker: path.write_bytes(pickle.dumps(Evil(marker), protocol=0)) and None,
    "a call of protocol 5": lambda path, marker: path.write_bytes(pickle.dumps(Evil(marker), protocol=5)) and None,
    "a call in torch's file": lambda path, marker: torch.save({"w": torch.ones(2), "e": Evil(marker)}, path),
    "a call in torch's old file": lambda path, marker: torch.save(
        {"e": Evil(marker)}, path, _use_new_zipfile_serialization=False
    ),
    "a zip of something else": lambda path, marker: zipped(path, a=b"x"),
    "a zip that leads out": lambda path, marker: zipped(path, **{"../../evil": b"x", "a/data.pkl": b"\x80\x02."}),
    "a whole module": lambda path, marker: torch.save(torch.nn.Linear(2, 2), path),
    "nothing": lambda path, marker: path.write_bytes(b"") and None,
    "noise": lambda path, marker: path.write_bytes(bytes(range(256))) and None,
    "text": lambda path, marker: path.write_bytes(b"<html>404</html>") and None,
    "half of one": lambda path, marker: (torch.save({"w": torch.ones(999)}, path), os.truncate(path, 900))[1],
    "no tensors": lambda path, marker: torch.save({"w": 3}, path),
    "a list": lambda path, marker: torch.save([torch.ones(2)], path),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(tmp_path: Path, name: str) -> None:
    path, marker = tmp_path / "pytorch_model.bin", tmp_path / "code-ran"
    PICKLES[name](path, marker)
    with pytest.raises((UnsafeWeights, WeightsUnavailable, SpecError)):
        read_state(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "said",
    [
        {"weight_map": {"w": "../outside.safetensors"}},
        {"weight_map": {"w": "/etc/passwd"}},
        {"weight_map": {"w": "sub/../../outside.safetensors"}},
        {"weight_map": {"w": ".."}},
        {"weight_map": {"w": ""}},
        {"weight_map": {"w": 3}},
        {"weight_map": {"w": ["a"]}},
        {"weight_map": {"w": "model.safetensors.index.json"}},
        {"weight_map": ["w"]},
        {"weight_map": None},
        {"weight_map": {"w": "nul\0.safetensors"}},
        [],
        "[" * 100_000,
        b"\xff\xfe",
    ],
    ids=lambda said: str(said)[:50],
)
def test_hostile_indices_of_shards(tmp_path: Path, said: Any) -> None:
    """Also an index that names itself, which would be read for ever."""
    folder = tmp_path / "a"
    folder.mkdir()
    (tmp_path / "outside.safetensors").write_bytes(header(tensor(4), bytes(16)))
    path = folder / "model.safetensors.index.json"
    text = said if isinstance(said, (str, bytes)) else json.dumps(said)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises((UnsafeWeights, WeightsUnavailable)):
        read_state(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    config = transformers.BertConfig(**{k: v for k, v in TINY.items() if k not in ("model_type", "architectures")})
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(byte_tokenizer(style="bert"), folder)
    return folder


CONFIGS: dict[str, Any] = {
    "nothing": b"",
    "a list": b"[]",
    "not UTF-8": b"\xff\xfe{}",
    "deep lists": b"[" * 100_000,
    "deep mappings": b'{"a":' * 100_000,
    "a number of many digits": b'{"model_type": ' + b"9" * 100_000 + b"}",
    "no type": {"model_type": None},
    "a type that is a list": {"model_type": ["bert"]},
    "a type that is a path": {"model_type": "../../evil"},
    "code of its own": {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}},
    "code of another": {"model_type": "evil", "auto_map": {"AutoConfig": "org/repo--evil.Evil"}},
    "a network of a terabyte": {"hidden_size": 1 << 20, "intermediate_size": 1 << 20},
    "a million layers": {"num_hidden_layers": 1_000_000},
    "a vocabulary of a billion": {"vocab_size": 1_000_000_000},
    "a billion places": {"max_position_embeddings": 1_000_000_000},
    "no layers": {"num_hidden_layers": -1},
    "a negative size": {"hidden_size": -8},
    "a size of nothing": {"hidden_size": 0},
    "sizes that are texts": {"hidden_size": "8"},
    "sizes that are lists": {"hidden_size": [8]},
    "heads that do not fit": {"num_attention_heads": 3},
    "an activation of nobody": {"hidden_act": "__import__('os').system('touch /tmp/hacked')"},
    "labels that are a list": {"id2label": ["no", "yes"]},
    "labels that are a text": {"id2label": "no"},
    "labels by words": {"id2label": {"a": "no", "b": "yes"}},
    "labels with a hole": {"id2label": {"0": "no", "7": "yes"}},
    "many labels": {"id2label": {str(i): str(i) for i in range(20_000)}},
    "labels that are numbers": {"id2label": {"0": 1, "1": 1}},
    "a negative number of labels": {"id2label": None, "num_labels": -1},
    "architectures that are a number": {"architectures": 3},
    "a padding that is a text": {"pad_token_id": "x"},
    "quantised by code": {"quantization_config": {"quant_method": "evil", "load_in_8bit": True}},
}  # fmt: skip


HARMLESS = (
    "a negative number of labels", "quantised by code", "labels that are numbers", "labels with a hole", "many labels",
)  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_configuration(checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.name != "config.json":
            os.link(file, folder / file.name)
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'code-ran')!r})\n")
    said = CONFIGS[name]
    (folder / "config.json").write_bytes(said if isinstance(said, bytes) else json.dumps({**TINY, **said}).encode())
    try:
        zoo.load(folder, device="cpu").predict("a text")
    except ZooError as error:
        message = str(error)
        assert len(message) < 3000
    else:
        # What a configuration may say without harm.
        assert name in HARMLESS
    assert not (tmp_path / "code-ran").exists()


@pytest.mark.parametrize("change", range(40))
def test_a_byte_of_safetensors_changed(checkpoint: Path, tmp_path: Path, change: int) -> None:
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    generator = np.random.default_rng(change)
    for place in generator.integers(600, size=1 + change % 3):
        content[place] = generator.integers(256)
    (tmp_path / "model.safetensors").write_bytes(content)
    try:
        assert read_state(tmp_path / "model.safetensors")
    except (WeightsUnavailable, SpecError) as error:
        message = str(error)
        assert message
