"""A bundle at work: without torch in the process, on the device that was asked for, refusing what is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import zoo
from tests.conformance.conftest import tiny_model
from zoo.errors import BundleError, ConfigError, DeviceError, MissingDependency
from zoo.runtime.session import Session
from zoo.tasks.samples import samples_of

_BLOCKED = """
import json, sys
for name in ("torch", "transformers", "timm", "torchvision", "torchaudio", "accelerate", "sklearn", "pandas"):
    sys.modules[name] = None
import zoo
model = zoo.runtime.load(sys.argv[1])
method = model.embed if model.task.name == "feature-extraction" else model.predict
results = method(json.loads(sys.argv[2]))
print(json.dumps(zoo.results.to_plain(results) if isinstance(results, list) else results.tolist()))
loaded = {name.split(".")[0] for name in sys.modules if sys.modules[name] is not None}
print(json.dumps(sorted(loaded & {"torch", "transformers", "huggingface_hub", "typer", "scipy", "matplotlib"})))
"""


def run_blocked(bundle: Path, raws: list[str]) -> tuple[object, list[str]]:
    """A bundle's results and the unwanted packages it loaded, from a process where torch can't be imported."""
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKED, str(bundle), json.dumps(raws)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results, loaded = done.stdout.splitlines()
    return json.loads(results), json.loads(loaded)


def files_of(spec: zoo.ModelSpec, folder: Path) -> list[str]:
    """The built-in samples as a user has them: text, image files, sound files."""
    paths = []
    for index, raw in enumerate(samples_of(spec)):
        if spec.modality == "text":
            paths.append(raw)
        elif spec.modality == "vision":
            Image.fromarray(raw).save(folder / f"{index}.png")
            paths.append(str(folder / f"{index}.png"))
        else:
            soundfile.write(folder / f"{index}.wav", *raw, subtype="FLOAT")
            paths.append(str(folder / f"{index}.wav"))
    return paths


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert-base-cased", "token-classification"),
        ("all-minilm-l6-v2", "feature-extraction"),
        ("gpt2", "text-generation"),
        ("resnet18", "image-classification"),
        ("wav2vec2-base", "audio-classification"),
        ("wav2vec2-base-960h", "automatic-speech-recognition"),
    ],
)
def test_answers_raw_files_where_torch_cannot_be_imported(name: str, task: str, tmp_path: Path) -> None:
    model = tiny_model(name, task)
    model.export(tmp_path / "a.bundle")
    raws = files_of(model.spec, tmp_path)
    results, loaded = run_blocked(tmp_path / "a.bundle", raws)
    assert loaded == []
    if task == "feature-extraction":
        np.testing.assert_allclose(np.array(results), model.embed(raws), atol=1e-4)
        return
    expected = zoo.results.to_plain(model.predict(raws))
    assert without_scores(results) == without_scores(expected)


def without_scores(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_scores(item) for key, item in value.items() if key not in ("score", "top")}
    return [without_scores(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "minilm.bundle"
    tiny_model("all-minilm-l6-v2").export(folder)
    return folder


def test_cuda_that_is_not_there_is_an_error_unless_fallback_is_asked_for(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="no CUDA provider"):
        zoo.runtime.load(bundle_folder, device="cuda")
    assert zoo.runtime.load(bundle_folder, device="cuda", fallback=True).session.device == "cpu"
    assert zoo.runtime.load(bundle_folder, device="auto").session.device == "cpu"


def test_a_silent_fallback_of_onnx_runtime_is_found(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists CUDA as available and then runs on the CPU when its libraries do not load."""
    import onnxruntime
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA works here, so it does not fall back")
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda *_, **__: None, raising=False)
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers: real(path, options, providers=providers[-1:])
    )
    with pytest.raises(DeviceError, match="could not load its CUDA provider"):
        zoo.runtime.load(bundle_folder, device="cuda")


def test_every_damaged_file_of_a_bundle_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    import shutil

    for name in sorted(path.name for path in bundle_folder.iterdir()):
        copy = tmp_path / name
        shutil.copytree(bundle_folder, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(BundleError):
            zoo.runtime.load(copy)


def test_a_graph_that_is_no_graph_is_one_readable_error(bundle_folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle_folder, copy)
    (copy / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="it is no ONNX graph"):
        zoo.runtime.load(copy, verify=False)


def test_what_is_no_bundle_says_what_it_is(bundle_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        zoo.runtime.load(tmp_path / "nowhere")
    tiny_model("resnet18").save(tmp_path / "saved")
    with pytest.raises(BundleError, match="is a saved model, not"):
        zoo.runtime.load(tmp_path / "saved")
    with pytest.raises(BundleError, match=r"zoo\.runtime\.load"):
        zoo.load(bundle_folder)


def test_options_a_bundle_cannot_change_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = zoo.runtime.load(bundle_folder)
    assert bundle.embed("one text").shape == bundle.embed(["one text"])[0].shape
    with pytest.raises(ConfigError, match="part of its graph"):
        bundle.embed("one text", pooling="max")
    classifier = tiny_model("resnet18").export(tmp_path / "a.bundle")
    with pytest.raises(ConfigError, match="exported for image-classification"):
        classifier.embed(np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(ConfigError, match=r"top_k"):
        classifier.predict(np.zeros((8, 8, 3), dtype=np.uint8), topk=3)


def test_without_onnxruntime_the_command_that_installs_it_is_named(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r'pip install "polyzoo\[cpu\]"'):
        zoo.runtime.load(bundle_folder)


def test_many_texts_are_answered_by_several_callers_of_one_thread_each(bundle_folder: Path) -> None:
    texts = [f"a text of {'very ' * n}many words" for n in range(60)]
    plain = zoo.runtime.load(bundle_folder, threads=1)
    model = zoo.runtime.load(bundle_folder, threads=2)
    expected = plain.embed(texts, batch_size=1)
    assert isinstance(model.session, Session)
    model.embed(texts[:5], batch_size=1)
    assert model.session._twin is None
    np.testing.assert_allclose(model.embed(texts, batch_size=1), expected, atol=1e-6)
    twin = model.session._twin
    assert twin is not None
    assert (twin.threads, twin.splits) == (1, False)
    np.testing.assert_allclose(np.stack(model.embed(texts)), expected, atol=1e-5)
    assert model.session._twin is twin
    # Nothing to split, or no room for a second copy.
    assert plain.bulk is None
    assert zoo.runtime.load(bundle_folder, threads=2, spin=False).bulk is None


def test_what_several_callers_are_given_is_held_to_the_card(bundle_folder: Path) -> None:
    model = zoo.runtime.load(bundle_folder, threads=2)
    assert isinstance(model.session, Session)
    assert model.session.split()._promised == model.session._promised != ()


def test_a_bundle_that_was_exchanged_answers_nothing_for_the_one_that_is_open(
    bundle_folder: Path, tmp_path: Path
) -> None:
    texts = [f"a text of {'very ' * n}many words" for n in range(30)]
    folder = tmp_path / "a.bundle"
    shutil.copytree(bundle_folder, folder)
    model = zoo.runtime.load(folder, threads=2)
    expected = model.embed(texts[:3], batch_size=1)
    shutil.rmtree(folder)
    other = tiny_model("all-minilm-l6-v2")
    for parameter in other.module.parameters():
        parameter.data.mul_(0.5)
    other.export(folder)
    assert isinstance(model.session, Session)
    assert model.session.split() is model.session
    np.testing.assert_allclose(model.embed(texts, batch_size=1)[:3], expected, atol=1e-6)
