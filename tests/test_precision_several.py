"""Less than fp32 where there are several graphs, or no labels: models that write, embeddings, two towers.

As in `test_precision`: fp32 is always right, and speed is told.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import zoo
from tests.conformance.conftest import tiny_model
from tests.test_caching import outspoken
from zoo import exporting, precision, runtime
from zoo.bundle import Quality
from zoo.errors import ConfigError, DataError, DeviceError, QualityError
from zoo.precision import judging, likeness, search, speed, writing
from zoo.precision.likeness import Likeness
from zoo.precision.speed import Speed
from zoo.runtime.caching_sequences import CachedSequenceSession
from zoo.tasks import caching

_WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet")
_BIG = 3000.0


def _texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(_WORDS, rng.integers(1, 9))) for _ in range(count)]


def _pictures(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(count)]


def _recordings(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, 8000 + 2000 * i).astype(np.float32) for i in range(count)]


def _answered(model: zoo.Model, raws: list[Any]) -> list[tuple[Any, str]]:
    """The inputs with what the model writes about them, as evaluate() has it write.

    ROUGE sees Latin letters and digits alone: a text without any is nothing that could be lost.
    """
    written = model.predict(raws, num_beams=1)
    return [(raw, one.text) for raw, one in zip(raws, written, strict=True) if re.search("[a-zA-Z0-9]", one.text)]


def _heard(model: zoo.Model, recordings: list[Any]) -> list[tuple[Any, Any]]:
    written = model.predict(recordings, num_beams=1, language="en")
    return [(raw, one) for raw, one in zip(recordings, written, strict=True) if one.text.strip()]


def _spread(model: zoo.Model, part: str) -> zoo.Model:
    """The same function with one channel of T5's feed-forward layers thousands of times larger than the others."""
    for name, layer in model.module.net.named_modules():
        if name.startswith(f"{part}.") and name.endswith("DenseReluDense"):
            layer.wi.weight.data[0] *= _BIG  # type: ignore[union-attr,operator]
            layer.wo.weight.data[:, 0] /= _BIG  # type: ignore[union-attr,operator]
    return model


@pytest.fixture(scope="module")
def t5() -> tuple[zoo.Model, list[tuple[Any, str]]]:
    model = outspoken("t5-small", "summarization")
    return model, _answered(model, _texts(120))


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Twice as fast as fp32, unless a test says otherwise. Both still answer everything once."""
    found = {"times": 2.0}

    def measure(reference: Callable[[Any], Any], candidate: Callable[[Any], Any], given: Any) -> Speed:
        for one in given:
            reference(one)
            candidate(one)
        return Speed(found["times"], found["times"] - 0.01, found["times"] + 0.01)

    monkeypatch.setattr(speed, "measure", measure)
    return found


@pytest.fixture(scope="module")
def _written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return tmp_path_factory.mktemp("written"), {}


@pytest.fixture(autouse=True)
def fp32_is_written_once(monkeypatch: pytest.MonkeyPatch, _written: tuple[Path, dict[str, Any]]) -> None:
    """For the same weights: to trace the graphs takes longer than all that is made of them here."""
    root, cards = _written
    real = exporting.fill

    def fill(reference: Any, module: Any, folder: Path, **given: Any) -> Any:
        state = hashlib.sha256(repr((reference.spec.name, reference.task.name, given)).encode())
        for tensor in module.state_dict().values():
            state.update(tensor.numpy().tobytes())
        kept = root / state.hexdigest()
        if kept.name not in cards:
            cards[kept.name] = real(reference, module, folder, **given)
            shutil.copytree(folder, kept)
        else:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        return cards[kept.name]

    monkeypatch.setattr(exporting, "fill", fill)


def _operators(folder: Path, file: str) -> set[str]:
    return {node.op_type for node in onnx.load(str(folder / file), load_external_data=False).graph.node}


def _figures(made: Any) -> Quality:
    assert made.card.quality is not None
    return made.card.quality  # type: ignore[no-any-return]


def test_both_halves_of_t5_are_reduced_and_judged_by_what_they_write(
    tmp_path: Path, t5: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights write another text at the least change, so much is allowed here."""
    monkeypatch.setattr(search, "_SHARE", 1.0)
    model, pairs = t5
    plain = model.export(tmp_path / "plain.bundle")
    made = model.export(tmp_path / "a.bundle", precision="int8", calibration=pairs, max_drop=0.99)
    quality = _figures(made)
    assert (quality.passed, quality.metric, quality.relative, quality.before) == (True, "rougeL", False, 1.0)
    assert quality.drop == pytest.approx(1.0 - (quality.after or 0.0))
    assert quality.left_out == ()
    for half in ("encoder.onnx", "decoder.onnx"):
        assert {"DynamicQuantizeLinear", "QuantizeLinear"} & _operators(made.folder, half)
    assert made.card.export is not None
    assert made.card.export.precision == "int8"
    zoo.verify(made.folder)
    size = {each: (each.folder / "weights.bin").stat().st_size for each in (plain, made)}
    assert size[made] < size[plain]
    assert quality.bytes_before > (quality.bytes_after or 0)
    again = runtime.load(made.folder)
    assert isinstance(again.session, CachedSequenceSession)
    # What was measured is what is written: the metric again, through the bundle that was left.
    rows = precision.parts(_rows(model, pairs))[1]
    assert judging.measure(again, rows).value == pytest.approx(quality.after)


def _rows(model: zoo.Model, pairs: Any) -> Any:
    from zoo import learning

    return learning.labelled(model, pairs, columns=None)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_half_that_spoils_the_text_is_refused_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(search, "_GROUPS", 1)
    model = _spread(outspoken("t5-small", "summarization"), part)
    pairs = _answered(model, _texts(80))
    with pytest.raises(QualityError, match=r"rougeL may drop by 0\.1") as caught:
        model.export(tmp_path / "a.bundle", precision="int8", calibration=pairs, max_drop=0.1)
    report = caught.value.report
    assert isinstance(report, Quality)
    assert [attempt.verdict for attempt in report.tried] == ["worse than allowed"] * 2
    for attempt in report.tried:
        assert attempt.before == 1.0
        assert attempt.after is not None
        assert f"{attempt.before:.4f} -> {attempt.after:.4f}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_in_fp32_names_its_half(tmp_path: Path) -> None:
    model = _spread(outspoken("t5-small", "summarization"), "decoder")
    pairs = _answered(model, _texts(80))
    made = model.export(tmp_path / "a.bundle", precision="int8", calibration=pairs, max_drop=0.8)
    left = _figures(made).left_out
    assert left
    assert all(name.split(":")[0] in ("encoder", "decoder") for name in left)
    assert any(name.startswith("decoder:") for name in left)
    # As few as possible: something is int8 still.
    operators = _operators(made.folder, "encoder.onnx") | _operators(made.folder, "decoder.onnx")
    assert {"DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"} & operators


def test_a_text_that_takes_longer_is_refused(tmp_path: Path, t5: Any, told: dict[str, float]) -> None:
    model, pairs = t5
    told["times"] = 0.8
    with pytest.raises(QualityError, match=r"slower than fp32.*0\.80 times"):
        model.export(tmp_path / "a.bundle", precision="fp16", calibration=pairs, max_drop=0.9)


def test_the_time_is_that_of_the_whole_answer_whatever_the_other_would_write(tmp_path: Path, t5: Any) -> None:
    """Encoder and decoder are run as often as fp32 ran them: one that ends early is not called fast for it."""
    model, pairs = t5
    bundle = model.export(tmp_path / "a.bundle")
    rows = _rows(model, pairs[:4])
    (batch,) = judging.timed(bundle, rows)
    found = writing.answer(bundle, batch)
    assert found.steps is not None
    longest = max(len(one.tokens) for one in bundle.predict([row.input for row in rows], num_beams=1))
    names = [name for name, _ in found.steps]
    # The last token is the end, or the last that is allowed; it is not read again.
    assert names.count("start") == 1
    assert longest - 1 <= names.count("advance") <= longest
    other = runtime.load(bundle.folder)
    runs: list[str] = []
    for half in ("encoder", "decoder"):
        part = getattr(other.session, half)
        real = part.run_held

        def spied(*given: Any, real: Any = real, half: str = half) -> Any:
            runs.append(half)
            return real(*given)

        part.run_held = spied
    found.by(other)
    assert runs == ["encoder", *["decoder"] * (1 + names.count("advance"))]


@pytest.mark.parametrize("wanted", ["int8", "fp16"])
def test_whisper_is_judged_by_its_word_error_rate(tmp_path: Path, wanted: str) -> None:
    model = outspoken("whisper-tiny", None)
    pairs = [(raw, one.text) for raw, one in _heard(model, _recordings(12))]
    made = model.export(tmp_path / "a.bundle", precision=wanted, calibration=pairs, max_drop=0.9)
    quality = _figures(made)
    assert (quality.metric, quality.before) == ("wer", 0.0)
    assert made.card.export is not None
    assert made.card.export.precision == wanted
    again = runtime.load(made.folder)
    written = again.predict([raw for raw, _ in pairs], num_beams=1, language="en")
    same = np.mean([one.text == text for one, (_, text) in zip(written, pairs, strict=True)])
    assert same >= 0.5
    zoo.verify(made.folder)


def test_fp16_of_t5_runs_with_its_cache_and_bf16_is_told(
    tmp_path: Path, t5: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random weights write noise, which the last bit of a number turns, and another processor's rounding.
    monkeypatch.setattr(search, "_SHARE", 1.0)
    model, pairs = t5
    made = model.export(tmp_path / "a.bundle", precision="fp16", calibration=pairs, max_drop=0.99)
    tensors = onnx.load(str(made.folder / "decoder.onnx")).graph.initializer
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in tensors}
    made = runtime.load(made.folder)
    assert made.card.graphs is not None
    caches = {item.name: item.dtype for graph in made.card.graphs for item in (*graph.inputs, *graph.outputs)}
    assert {dtype for name, dtype in caches.items() if caching.is_cache(name) or name == "cache"} == {"float16"}
    # Beams choose rows of it.
    written = made.predict([raw for raw, _ in pairs], num_beams=3, max_new_tokens=5)
    assert {len(one.tokens) for one in written} <= {*range(6)}
    assert any(one.tokens for one in written)
    with pytest.raises(DeviceError, match="precision='bf16' is nothing for ONNX Runtime's cpu provider"):
        model.export(tmp_path / "b.bundle", precision="bf16", calibration=pairs, max_drop=0.5)


def test_embeddings_need_no_labels_and_are_judged_by_their_cosine(tmp_path: Path) -> None:
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    texts = _texts(40)
    made = model.export(tmp_path / "a.bundle", precision="int8", calibration=texts[:20], test=texts[20:])
    quality = _figures(made)
    assert (quality.metric, quality.before, quality.rows) == ("cosine", pytest.approx(1.0), 20)
    assert "MatMulInteger" in _operators(made.folder, "model.onnx")
    ours, theirs = (each.embed(texts[20:], normalize=True) for each in (made, model))
    drop = 1 - float((ours * theirs).sum(axis=1).mean())
    assert quality.drop == pytest.approx(drop, abs=1e-6)
    assert 0 < drop <= 0.01


def test_embeddings_that_turn_away_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_GROUPS", 1)
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    with torch.no_grad():
        for name, parameter in model.module.net.named_parameters():
            if name.endswith("attention.self.value.weight"):
                parameter[0] *= 30 * _BIG
            elif parameter.dim() == 2 and "embeddings" not in name:
                parameter *= 8.0
    with pytest.raises(QualityError, match=r"cosine 1\.0000 -> 0\.") as caught:
        model.export(tmp_path / "a.bundle", precision="int8", calibration=_texts(40), max_drop=1e-4)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(caught.value.report, Quality)


def test_a_folder_of_images_is_data_for_embeddings(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images" / "more").mkdir(parents=True)
    for place, picture in enumerate(_pictures(8)):
        Image.fromarray(picture).save(tmp_path / "images" / ("more" if place % 2 else ".") / f"{place}.png")
    model = tiny_model("resnet18", "feature-extraction")
    made = model.export(tmp_path / "a.bundle", precision="int8", calibration=tmp_path / "images", max_drop=0.05)
    quality = _figures(made)
    assert (quality.metric, quality.rows, quality.calibration_rows) == ("cosine", 4, 4)
    with pytest.raises(DataError, match=r"no folder|no file"):
        model.export(tmp_path / "b.bundle", precision="int8", calibration=str(tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def clip() -> zoo.Model:
    return tiny_model("clip-vit-base-patch32", "feature-extraction")


def _both(count: int) -> list[Any]:
    return [{"image": picture, "text": text} for picture, text in zip(_pictures(count), _texts(count), strict=True)]


def test_both_towers_are_reduced_and_judged_by_cosine_and_by_what_is_nearest(tmp_path: Path, clip: zoo.Model) -> None:
    made = clip.export(tmp_path / "a.bundle", precision="int8", calibration=_both(20), max_drop=0.6)
    quality = _figures(made)
    assert (quality.metric, quality.before) == ("cosine_and_nearest", pytest.approx(1.0))
    # A pair is two inputs, and half of all judge.
    assert (quality.rows, quality.calibration_rows) == (20, 20)
    for tower in ("image.onnx", "text.onnx"):
        assert {"DynamicQuantizeLinear", "QuantizeLinear"} & _operators(made.folder, tower)
    pictures, texts = _pictures(4), _texts(4)
    for side, raws in (("image", pictures), ("text", texts)):
        ours, theirs = (each.embed(raws, side=side, normalize=True) for each in (made, clip))
        assert (ours * theirs).sum(axis=1).min() > 0.9


def test_one_tower_alone_can_not_be_judged(tmp_path: Path, clip: zoo.Model) -> None:
    with pytest.raises(DataError, match="two towers"):
        clip.export(tmp_path / "a.bundle", precision="int8", calibration=_pictures(8))


def test_towers_of_near_vectors_and_another_order_are_not_alike(
    tmp_path: Path, clip: zoo.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cosines of 0.9999 to fp32's, and each image finds another text."""
    bundle = clip.export(tmp_path / "a.bundle")
    sides = np.array([False, False, True, True])
    near = np.array([[1.0, 0.001], [1.0, -0.001], [1.0, 0.01], [1.0, -0.01]])
    turned = near * np.array([[1.0, -1.0]] * 2 + [[1.0, 1.0]] * 2)
    given = iter([near, near, turned])

    def embedded(model: Any, rows: Any) -> Any:
        vectors = next(given)
        return sides, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(likeness, "_embedded", embedded)
    rows = likeness.inputs(clip, _both(2), None)
    judge = Likeness(bundle, rows)
    assert judge.of(bundle).value == pytest.approx(1.0)
    assert judge.of(bundle).value == 0.0


def test_zero_shot_towers_are_judged_by_the_captions_that_are_found(tmp_path: Path) -> None:
    """The task has a metric of its own: images with their captions, each of which is of one row."""
    model = tiny_model("clip-vit-base-patch32")
    made = model.export(tmp_path / "a.bundle", precision="int8", calibration=_both(16), max_drop=0.9)
    quality = _figures(made)
    assert (quality.metric, quality.rows, quality.calibration_rows) == ("mean_recall@1", 8, 8)
    assert made.predict(_pictures(1)[0], candidate_labels=["a", "b"]).label in ("a", "b")


def test_data_is_asked_for(tmp_path: Path, clip: zoo.Model) -> None:
    with pytest.raises(ConfigError, match="inputs alone"):
        clip.export(tmp_path / "a.bundle", precision="int8")
