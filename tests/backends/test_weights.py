from __future__ import annotations

import hashlib
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.backends.conftest import audio_spec, image_spec, text_spec
from zoo.backends import build, read_state
from zoo.backends.weights import load_into
from zoo.errors import SpecError, UnsafeWeights, WeightsUnavailable
from zoo.spec import ModelSpec

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Mischief:
    """Unpickled carelessly, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "pytorch_model.bin"])
def test_plain_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(STATE, path)
    assert same(read_state(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert same(read_state(path, sha256=digest))
    with pytest.raises(WeightsUnavailable, match="sha256"):
        read_state(path, sha256="0" * 64)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", ["state_dict", "model", None])
def test_what_training_scripts_save(wrap: str | None, legacy: bool, tmp_path: Path) -> None:
    state: Any = OrderedDict((f"module.{key}", tensor) for key, tensor in STATE.items())
    torch.save(
        {wrap: state, "epoch": 3} if wrap else state, tmp_path / "c.pt", _use_new_zipfile_serialization=not legacy
    )
    assert same(read_state(tmp_path / "c.pt"))


def test_shards(tmp_path: Path) -> None:
    save_file({"a.weight": STATE["a.weight"]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"a.bias": STATE["a.bias"]}, tmp_path / "model-00002-of-00002.safetensors")
    names = {"a.weight": "model-00001-of-00002.safetensors", "a.bias": "model-00002-of-00002.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert same(read_state(tmp_path))
    assert same(read_state(index))
    (tmp_path / names["a.bias"]).unlink()
    with pytest.raises(WeightsUnavailable, match="00002-of-00002"):
        read_state(index)


def test_an_index_may_not_leave_its_folder(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "../outside.safetensors"}}))
    with pytest.raises(UnsafeWeights, match="outside its own folder"):
        read_state(index)
    index.write_text("[]")
    with pytest.raises(WeightsUnavailable, match="not the index"):
        read_state(index)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_not_run(legacy: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({**STATE, "x": Mischief(trace)}, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeWeights, match=r"safetensors\.torch\.save_file"):
        read_state(tmp_path / "evil.pth")
    (tmp_path / "bare.bin").write_bytes(pickle.dumps(Mischief(trace)))
    with pytest.raises(UnsafeWeights):
        read_state(tmp_path / "bare.bin")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint", b"cut"])
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    if content == b"cut":
        (save_file if name.endswith("safetensors") else torch.save)(STATE, path)
        content = path.read_bytes()[:-40]
    path.write_bytes(content)
    with pytest.raises(WeightsUnavailable, match="damaged"):
        read_state(path)


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="does not exist"):
        read_state(tmp_path / "none.safetensors")
    with pytest.raises(WeightsUnavailable, match=r"model\.safetensors"):
        read_state(tmp_path)


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "c.pt")
    with pytest.raises(SpecError, match="no tensors; its keys are epoch"):
        read_state(tmp_path / "c.pt")
    torch.save([1, 2], tmp_path / "c.pt")
    with pytest.raises(SpecError, match="holds a list"):
        read_state(tmp_path / "c.pt")


def test_a_body_must_fit_completely() -> None:
    net = nn.Sequential(OrderedDict(body=nn.Linear(2, 2), head=nn.Linear(2, 3)))
    state = net.state_dict()
    assert not load_into(net, state, is_head=lambda key: key.startswith("head."), where="x")
    missing = {key: tensor for key, tensor in state.items() if key != "body.bias"}
    with pytest.raises(SpecError, match=r"missing \(1\): body\.bias"):
        load_into(net, missing, is_head=lambda key: key.startswith("head."), where="x")
    with pytest.raises(SpecError, match=r"body\.bias is \[7\], not \[2\]"):
        load_into(net, {**state, "body.bias": torch.ones(7)}, is_head=lambda key: False, where="x")
    with pytest.raises(SpecError, match=r"another network \(1\): body2\.bias"):
        load_into(net, {**state, "body2.bias": torch.ones(7)}, is_head=lambda key: False, where="x")


def bert_state(**changes: Any) -> dict[str, torch.Tensor]:
    module = build(text_spec("bert", **changes), task="text-classification", labels=("a", "b"), seed=0)
    return dict(module.net.state_dict())


def renamed(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    out = {}
    for key, tensor in state.items():
        for new, old in names.items():
            key = key.replace(new, old)
        out[key] = tensor
    return out


def test_transformers_missing_differing_and_deeper_checkpoints() -> None:
    def into(state: dict[str, torch.Tensor]) -> None:
        build(text_spec("bert"), task="text-classification", labels=("a", "b"), state=state)

    key = "bert.encoder.layer.0.output.dense.weight"
    with pytest.raises(SpecError, match=r"missing \(1\): bert\.encoder\.layer\.0\.output\.dense\.weight"):
        into({name: tensor for name, tensor in bert_state().items() if name != key})
    with pytest.raises(SpecError, match=r"of another shape .*is \[32, 64\], not \[32, 37\]"):
        into(bert_state(intermediate_size=64))
    with pytest.raises(SpecError, match=r"of another network .*encoder\.layer\.2\."):
        into(bert_state(num_hidden_layers=3))
    bare = {name.removeprefix("bert."): tensor for name, tensor in bert_state(num_hidden_layers=3).items()}
    with pytest.raises(SpecError, match="of another network"):
        into(bare)


def test_transformers_knows_older_names_and_bare_bodies() -> None:
    state = bert_state()
    body = {key.removeprefix("bert."): tensor for key, tensor in state.items() if not key.startswith("classifier.")}
    older = renamed(body, {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"})
    older["cls.predictions.bias"] = torch.zeros(300)
    module = build(text_spec("bert"), task="token-classification", labels=("a", "b"), state=older)
    assert module.fresh_head
    own = module.net.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own if key.startswith("bert."))


def test_a_body_without_its_pooler_gives_a_fresh_head() -> None:
    state = {key: tensor for key, tensor in bert_state().items() if "pooler" not in key}
    assert build(text_spec("bert"), task="text-classification", labels=("a", "b"), state=state).fresh_head
    assert not build(text_spec("bert"), task="feature-extraction", labels=(), state=state).fresh_head


def test_weight_norm_of_older_checkpoints() -> None:
    labels = ("<pad>", "a")
    state = build(audio_spec("wav2vec2"), task="automatic-speech-recognition", labels=labels, seed=0).net.state_dict()
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    older = renamed({key: tensor for key, tensor in state.items() if "masked_spec_embed" not in key}, names)
    module = build(audio_spec("wav2vec2"), task="automatic-speech-recognition", labels=labels, state=older)
    assert not module.fresh_head
    own = module.net.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own if "masked_spec_embed" not in key)


@pytest.mark.parametrize("spec", [text_spec("bert"), image_spec("timm", "resnet10t")])
def test_half_precision_checkpoints_become_float32(spec: ModelSpec) -> None:
    task = f"{'text' if spec.modality == 'text' else 'image'}-classification"
    state = build(spec, task=task, labels=("a", "b"), seed=0).net.state_dict()
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    module = build(spec, task=task, labels=("a", "b"), state=half)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_a_larger_network_of_the_same_kind_is_refused() -> None:
    state = build(image_spec("timm", "resnet14t"), task="image-classification", labels=("a",), seed=0).net.state_dict()
    with pytest.raises(SpecError, match="not those of timm's resnet10t"):
        build(image_spec("timm", "resnet10t"), task="image-classification", labels=("a",), state=state)
