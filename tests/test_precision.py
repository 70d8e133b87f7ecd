"""Less than fp32: what the gate lets through, what it refuses, and what it leaves in fp32.

The data's labels are what the fp32 model answers where it is sure, so fp32 is always right and any loss is the
conversion's. Speed is never measured here: on tiny graphs it is noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import zoo
from tests.conformance.conftest import tiny_model
from tests.test_caching import outspoken
from zoo import precision, runtime, tracing
from zoo.bundle import Quality
from zoo.errors import ConfigError, DataError, QualityError
from zoo.precision import halves, judging, search, speed
from zoo.precision.deciding import Kept, Wanted, decide
from zoo.precision.graphs import weight_of
from zoo.precision.scores import Score
from zoo.precision.source import Source, opset_of, write
from zoo.precision.speed import Speed
from zoo.runtime.session import Session
from zoo.training import data

_WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima")
_BIG = 3000.0


def _text_model() -> zoo.Model:
    """A random BERT that looks at its input: at the usual scale all inputs give one answer."""
    spec = tiny_model("bert-base-cased").spec
    model = zoo.load(spec, task="text-classification", labels=list("abcd"), weights=None, device="cpu", seed=0)
    for name, parameter in model.module.net.named_parameters():
        if parameter.ndim == 2 and "embeddings" not in name:
            parameter.data.mul_(16.0 if name.endswith("attention.output.dense.weight") else 4.0)
    outcomes = model.outcomes(_texts(64), model.task.parse_options({}), batch_size=1, on_error="raise")
    logits = np.stack([outcome.outputs[0]["logits"] for outcome in outcomes])
    model.module.net.get_parameter("classifier.bias").data -= torch.from_numpy(logits.mean(axis=0))
    return model


def _sure(model: zoo.Model, raws: list[Any], count: int) -> list[tuple[Any, str]]:
    """The inputs that the model answers with the widest margins, and its answers."""
    found = model.predict(raws)
    margins = [result.top[0].score - result.top[1].score for result in found]
    best = sorted(np.argsort(margins)[-count:])
    return [(raws[i], found[i].label) for i in best]


def _texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(_WORDS, rng.integers(1, 9))) for _ in range(count)]


def _pictures(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(count)]


def _spread(model: zoo.Model, layers: tuple[int, ...]) -> zoo.Model:
    """The same function with one channel of a layer's activations thousands of times larger than the others.

    int8 has one scale for all of them: next to it, they are nought.
    """
    for number in layers:
        attention = model.module.net.get_submodule(f"bert.encoder.layer.{number}.attention")
        value, dense = attention.get_submodule("self.value"), attention.get_submodule("output.dense")
        value.weight.data[0] *= _BIG
        value.bias.data[0] *= _BIG
        dense.weight.data[:, 0] /= _BIG
    return model


class Case:
    """A model, its fp32 bundle's folder, and labelled rows."""

    def __init__(self, model: zoo.Model, raws: list[Any], folder: Path, count: int = 60) -> None:
        self.model = model
        self.folder = folder
        self.pairs = _sure(model, raws, count)
        model.export(folder, samples=raws[:3])

    def rows(self, pairs: list[Any]) -> data.Rows:
        return data.read(pairs, tasks=(self.model.task.name,), task=self.model.task.name).splits["train"]

    def decide(self, wanted: str, work: Path, max_drop: float = 0.01) -> Kept:
        work.mkdir(exist_ok=True)
        halves = self.rows(self.pairs[::2]), self.rows(self.pairs[1::2])
        return decide(runtime.load(self.folder), Wanted(wanted, *halves, max_drop), work)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(_text_model(), _texts(200), tmp_path_factory.mktemp("text") / "a.bundle")


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(_spread(_text_model(), (1,)), _texts(200), tmp_path_factory.mktemp("spread") / "a.bundle")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tiny_model("resnet18"), _pictures(120), tmp_path_factory.mktemp("pictures") / "a.bundle", 40)


Speeds = dict[str, float]


@pytest.fixture(autouse=True)
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """By how each candidate's folder is named: twice as fast as fp32, unless a test says otherwise."""
    found: Speeds = {}
    opened: list[str] = []
    real = search.Workbench.open

    def noted(self: search.Workbench, folder: Path) -> Any:
        opened.append(folder.name.rsplit("_", 1)[0])
        return real(self, folder)

    monkeypatch.setattr(search.Workbench, "open", noted)

    def told(ours: Any, theirs: Any, given: Any) -> Speed:
        times = found.get(opened[-1], 2.0)
        return Speed(times, times - 0.01, times + 0.01)

    monkeypatch.setattr(speed, "measure", told)
    return found


def _graph(folder: Path, file: str = "model.onnx") -> Any:
    return onnx.load(str(folder / file)).graph


def _operators(folder: Path, file: str = "model.onnx") -> list[str]:
    return [node.op_type for node in _graph(folder, file).node]


def test_int8_that_is_good_enough_is_kept_with_its_figures(tmp_path: Path, text: Case) -> None:
    made = text.model.export(tmp_path / "a.bundle", precision="int8", calibration=text.pairs, max_drop=0.1)
    quality, stated = made.card.quality, made.card.export
    assert quality is not None
    assert stated is not None
    assert (quality.passed, quality.metric, quality.before) == (True, "accuracy", 1.0)
    assert quality.after is not None
    assert quality.after >= 0.9
    assert (quality.rows, quality.calibration_rows) == (30, 30)
    assert (quality.way, quality.speed, quality.left_out) == ("int8 dynamic", 2.0, ())
    assert [attempt.way for attempt in quality.tried] == ["int8 dynamic", "int8 static"]
    assert quality.bytes_after == (tmp_path / "a.bundle" / "model.onnx").stat().st_size < quality.bytes_before
    assert (stated.precision, stated.opset) == ("int8", opset_of(tmp_path / "a.bundle" / "model.onnx"))
    assert "MatMulInteger" in _operators(tmp_path / "a.bundle")
    zoo.verify(tmp_path / "a.bundle")
    raws = [raw for raw, _ in text.pairs]
    agreed = [result.label == label for result, (_, label) in zip(made.predict(raws), text.pairs, strict=True)]
    assert np.mean(agreed) >= 0.9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bundle"]


def test_int8_that_is_too_bad_is_refused_and_leaves_nothing(
    tmp_path: Path, spread: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all operators in one group there is nothing to leave out: the outlier spoils everything."""
    monkeypatch.setattr(search, "_GROUPS", 1)
    with pytest.raises(QualityError, match=r"accuracy may drop by 0\.01") as caught:
        spread.model.export(tmp_path / "a.bundle", precision="int8", calibration=spread.pairs)
    report = caught.value.report
    assert isinstance(report, Quality)
    assert not report.passed
    for attempt in report.tried:
        assert attempt.before == 1.0
        assert attempt.after is not None
        assert attempt.after < 0.9
        assert f"{attempt.way}: worse than allowed; accuracy 1.0000 -> {attempt.after:.4f}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_operators_that_hurt_stay_in_fp32_and_no_more(tmp_path: Path, spread: Case) -> None:
    kept = spread.decide("int8", tmp_path / "work", max_drop=0.1)
    assert kept.quality.passed
    assert kept.folder is not None
    nodes = Source(spread.folder / "model.onnx").nodes
    products = [node.name for node in nodes if node.op_type in ("MatMul", "Gemm")]
    second = [place for place, node in enumerate(nodes) if node.op_type == "Attention"][1]
    guilty = next(node.name for node in nodes[second:] if node.name in products)
    assert guilty in kept.quality.left_out
    assert len(kept.quality.left_out) <= len(products) // 2
    assert {"MatMulInteger", "MatMul"} <= {node.op_type for node in _graph(kept.folder).node}


def test_int8_that_is_slower_is_refused(tmp_path: Path, text: Case, speeds: Speeds) -> None:
    speeds.update({"int8_dynamic": 0.8, "int8_static": 1.02})
    quality = text.decide("int8", tmp_path / "work", max_drop=0.1).quality
    assert not quality.passed
    assert [attempt.verdict for attempt in quality.tried] == [
        "slower than fp32", "not 2% faster than fp32 for certain (1.01 to 1.03 times as fast)"
    ]  # fmt: skip
    assert "0.80 times (0.79 to 0.81) as fast" in precision.explain(quality)


def test_what_is_worse_only_on_the_rows_that_judge_is_refused(
    tmp_path: Path, text: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever judged on the rows that calibrated would not see it."""
    real, seen = judging.measure, []

    def other(model: Any, rows: Any) -> Score:
        found = real(model, rows)
        seen.append(rows)
        judged = [text.pairs[1][0]] == [rows[0].input]
        first = judged and sum(rows[0].input == one[0].input for one in seen) == 1
        return found if not judged or first else Score(found.metric, found.value - 0.5, True)

    monkeypatch.setattr(judging, "measure", other)
    quality = text.decide("int8", tmp_path / "work", max_drop=0.1).quality
    assert not quality.passed
    assert any("worse on the rows that judge" in attempt.verdict for attempt in quality.tried)


@pytest.mark.parametrize(("fastest", "way"), [("int8_static", "int8 static"), ("fp16", "fp16"), (None, "fp32")])
def test_auto_keeps_the_fastest_and_tells_what_was_tried(
    tmp_path: Path, text: Case, speeds: Speeds, fastest: str | None, way: str
) -> None:
    speeds.update({"int8_dynamic": 0.5, "int8_static": 0.5, "fp16": 0.5})
    if fastest:
        speeds[fastest] = 3.0
    kept = text.decide("auto", tmp_path / "work", max_drop=0.1)
    assert (kept.quality.passed, kept.quality.way) == (True, way)
    assert [attempt.way for attempt in kept.quality.tried] == ["int8 dynamic", "int8 static", "fp16", "bf16"]
    assert (kept.folder is None) == (fastest is None)
    assert "can't be run" in kept.quality.tried[-1].verdict


def test_fp16_keeps_its_inputs_and_outputs(tmp_path: Path, pictures: Case) -> None:
    kept = pictures.decide("fp16", tmp_path / "work", max_drop=0.1)
    assert kept.quality.passed
    assert kept.folder is not None
    model = onnx.load(str(kept.folder / "model.onnx"))
    assert [value.type.tensor_type.elem_type for value in model.graph.input] == [onnx.TensorProto.UINT8]
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [onnx.TensorProto.FLOAT]
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in model.graph.initializer}
    assert kept.quality.bytes_after is not None
    assert kept.quality.bytes_after < 0.6 * kept.quality.bytes_before


def test_a_precision_that_the_provider_can_not_run_is_told(tmp_path: Path, text: Case) -> None:
    unsupported = text.decide("bf16", tmp_path / "work").unsupported
    assert unsupported is not None
    assert "precision='bf16' is nothing for ONNX Runtime's cpu provider" in unsupported


def test_convolutions_are_static_with_ranges_of_the_users_data(tmp_path: Path, pictures: Case) -> None:
    kept = pictures.decide("int8", tmp_path / "work", max_drop=0.1)
    assert (kept.quality.passed, kept.quality.way) == (True, "int8 static")
    assert kept.folder is not None
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= set(_operators(kept.folder))
    weights = {tensor.data_type for tensor in _graph(kept.folder).initializer if np.prod(tensor.dims) > 500}
    assert weights == {onnx.TensorProto.INT8}


def test_a_language_model_with_a_cache_is_judged_by_its_perplexity(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    made = model.export(tmp_path / "a.bundle", precision="int8", calibration=_texts(12), max_drop=0.2)
    quality = made.card.quality
    assert quality is not None
    assert (quality.metric, quality.relative) == ("perplexity", True)
    assert "MatMulInteger" in _operators(tmp_path / "a.bundle")
    # The last product too, whose weights are those of the embedding.
    large = {tensor.data_type for tensor in _graph(tmp_path / "a.bundle").initializer if np.prod(tensor.dims) > 1000}
    assert large == {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert "MatMul" not in _operators(tmp_path / "a.bundle")
    assert len(made.predict("once", max_new_tokens=3, do_sample=False).tokens) == 3


def test_half_a_language_model_opens_and_writes(tmp_path: Path) -> None:
    """ONNX Runtime ended the process on this graph, whose batch is turned before its last product."""
    model = outspoken("gpt2")
    made = model.export(tmp_path / "a.bundle", precision="fp16", calibration=_texts(12), max_drop=0.05)
    graph = _graph(made.folder)
    assert onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in graph.initializer}
    # The cache as well, which is nobody's but the graph's; the rest is fp32 for whoever reads it.
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    held = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16}
    assert held == {name for name in kinds if name.startswith(("past_key_values", "present"))} != set()
    assert kinds["logits"] == onnx.TensorProto.FLOAT
    made = zoo.runtime.load(made.folder)
    prompts = ["once", "alpha bravo charlie"]
    ours, theirs = (each.predict(prompts, max_new_tokens=4, do_sample=False) for each in (made, model))
    # Of random weights the further ones are a matter of rounding.
    assert [one.tokens[:2] for one in ours] == [one.tokens[:2] for one in theirs]
    assert all(len(one.tokens) == 4 for one in ours)


def test_half_a_graph_opens_whatever_is_left_out(tmp_path: Path, text: Case) -> None:
    """What several operators that are left out read was converted for each of them, under one name."""
    source = Source(text.folder / "model.onnx")
    for kind in ("Gemm", "MatMul", "Add"):
        left_out = frozenset(node.name for node in source.nodes if node.op_type == kind)
        write(halves.fp16()(source.copy(), left_out), tmp_path / f"{kind}.onnx")
        Session(tmp_path / f"{kind}.onnx")


def test_large_weights_stay_beside_the_graph(tmp_path: Path, text: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold, lowered."""
    monkeypatch.setattr(tracing, "INLINE_BYTES", 1000)
    source = Source(text.folder / "model.onnx")
    write(source.copy(), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size > 50_000
    again = Source(tmp_path / "model.onnx")
    assert again.weights == source.weights
    for ours, theirs in zip(again.copy().graph.initializer, source.copy().graph.initializer, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(ours), onnx.numpy_helper.to_array(theirs))
    assert weight_of(tmp_path, runtime.load(text.folder).card) > 50_000


def test_the_parts_of_the_calibration_data_are_apart(text: Case) -> None:
    calibration, test = precision.parts(text.rows(text.pairs))
    ours, theirs = ([row.where for row in rows] for rows in (calibration, test))
    assert not {*ours} & {*theirs}
    assert len(ours) + len(theirs) == len(text.pairs)


@pytest.mark.parametrize(
    ("metric", "higher", "before", "after", "drop"),
    [
        ("accuracy", True, 0.9, 0.88, 0.02),
        ("wer", False, 0.1, 0.13, 0.03),
        ("perplexity", False, 20.0, 21.0, 0.05),
        ("rmse", False, 4.0, 3.0, -0.25),
        ("accuracy", True, 0.9, float("nan"), float("inf")),
    ],
)
def test_a_drop_is_a_difference_of_shares_and_a_share_of_the_rest(
    metric: str, higher: bool, before: float, after: float, drop: float
) -> None:
    found = Score(metric, before, higher).drop_to(Score(metric, after, higher))
    assert found == pytest.approx(drop)


def test_wrong_options_are_refused_before_any_work(tmp_path: Path, text: Case) -> None:
    target = tmp_path / "a.bundle"
    with pytest.raises(ConfigError, match="Did you mean 'int8'"):
        text.model.export(target, precision="int")
    with pytest.raises(ConfigError, match="give calibration="):
        text.model.export(target, precision="int8")
    with pytest.raises(ConfigError, match="fp32 needs no data"):
        text.model.export(target, calibration=text.pairs)
    with pytest.raises(ConfigError, match=r"max_drop is 1\.5"):
        text.model.export(target, precision="int8", calibration=text.pairs, max_drop=1.5)
    with pytest.raises(ConfigError, match="runs_on"):
        text.model.export(target, precision="int8", calibration=text.pairs, runs_on="tpu")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="can't be"):
        text.model.export(target, precision="int8", calibration=text.pairs[:1])
    with pytest.raises(ConfigError, match="no metric"):
        tiny_model("mms-tts-eng").export(target, precision="int8", calibration=["a"])
    assert list(tmp_path.iterdir()) == []
