"""Tokens drafted by an int8 copy of the model: the text stays the model's own, whatever the copy says."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

import zoo
from tests.conformance.conftest import tiny_model
from tests.test_caching import PROMPTS, Pair, outspoken, reworded
from zoo import bundle as folders
from zoo import drafting, rounding, shortlist, tracing
from zoo.errors import BundleError
from zoo.modalities.base import Array
from zoo.precision import graphs
from zoo.runtime import BundleModel
from zoo.runtime import draft as drafts
from zoo.runtime.caching import CachedGraph, CachedSession
from zoo.runtime.draft import Draft
from zoo.runtime.model import open_graphs
from zoo.runtime.session import Session
from zoo.tasks.generation import GenerateOptions

ALONE: dict[str, Any] = {"max_new_tokens": 24, "prompt_lookup_num_tokens": 0}


def exported(name: str, folder: Path, *, listing: bool = False, **options: Any) -> Pair:
    model = outspoken(name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(drafting, "LEAST", 0)
        patched.setattr(tracing, "INLINE_BYTES", 0)
        if listing:
            patched.setattr(shortlist, "LEAST", 0)
        return model, model.export(folder / "a.bundle", **options)


@pytest.fixture(scope="module", params=["gpt2", "qwen2.5-0.5b", "pythia-70m"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Weights that stand either way round, with and without a bias, and an output layer that is the embedding or not;
    one of them has shortlists, too."""
    return exported(request.param, tmp_path_factory.mktemp("bundles"), listing=request.param == "gpt2")


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tiny models a draft takes as long as a step: none is compared with the other."""
    monkeypatch.setattr(drafts, "_STEPS", 0)


def reopened(bundle: BundleModel) -> tuple[BundleModel, CachedSession]:
    model = zoo.runtime.load(bundle.folder, packed=True, verify=False)
    assert isinstance(model.session, CachedSession)
    assert model.session.draft is not None
    return model, model.session


class Watched:
    """What was drafted, and how much of that was forgotten."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drafts: list[list[int]] = []
        self.forgotten = 0
        draft, forget = CachedGraph.draft, CachedGraph.forget

        def drafted(one: CachedGraph, token: int, most: int, choose: Any) -> Array:
            found = draft(one, token, most, choose)
            assert len(found) <= most
            self.drafts.append(found.tolist())
            return found

        def forgot(one: CachedGraph, count: int) -> None:
            self.forgotten += count
            forget(one, count)

        monkeypatch.setattr(CachedGraph, "draft", drafted)
        monkeypatch.setattr(CachedGraph, "forget", forgot)

    @property
    def right(self) -> int:
        return sum(map(len, self.drafts)) - self.forgotten


DRAWN: dict[str, Any] = {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "seed": 3}


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, DRAWN, {**DRAWN, "repetition_penalty": 1.1}])
def test_the_text_is_that_of_torch(pair: Pair, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    watched = Watched(monkeypatch)
    opened = reopened(bundle)[0]
    for prompt in PROMPTS:
        assert opened.predict(prompt, **ALONE, **options) == model.predict(prompt, **ALONE, **options)
    assert watched.right > 40
    assert max(map(len, watched.drafts)) > 3


def test_its_logits_are_nearly_those_of_the_model(pair: Pair) -> None:
    _, bundle = pair
    session = reopened(bundle)[1]
    assert session.draft is not None
    drafting_session = session.draft.session()
    assert drafting_session is not None
    ids = np.array([[5, 9, 7, 11]])
    stepper = CachedGraph(session)
    stepper.start(ids, np.ones_like(ids))
    found: list[Array] = []

    class Chooser:
        @property
        def ended(self) -> bool:
            return len(found) > 2

        def __call__(self, logits: Array) -> int:
            found.append(logits)
            return 3

    # What comes behind the end of the text is not asked for.
    assert stepper.draft(6, 9, Chooser()).tolist() == [3, 3, 3]
    assert len(found) == 3
    expected = stepper.advance(np.array([6]))[0]
    assert np.corrcoef(found[0], expected)[0, 1] > 0.999
    assert not np.array_equal(found[0], expected)


def test_streams_and_texts_written_together_are_the_same(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is alone is drafted, and goes on without when others join it."""
    model, bundle = pair
    watched = Watched(monkeypatch)
    opened = reopened(bundle)[0]
    alone = [model.predict(prompt, **ALONE) for prompt in PROMPTS]
    assert "".join(opened.stream(PROMPTS[1], **ALONE)) == alone[1].text
    assert watched.right > 5
    flight = opened.flight()
    assert flight is not None
    passengers: list[Any] = [flight.ticket(0, prompt, GenerateOptions(**ALONE)) for prompt in PROMPTS]
    watched.drafts.clear()
    flight.turn(passengers[:1])
    flight.turn()
    assert watched.drafts
    flight.turn(passengers[1:])
    while flight.busy:
        flight.turn()
    assert [flight.result(one) for one in passengers] == alone


@pytest.mark.parametrize(("options", "rows"), [({"num_assistant_tokens": 0}, 1), ({}, 3)])
def test_no_drafts_where_they_gain_nothing(
    pair: Pair, options: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bundle = pair
    watched = Watched(monkeypatch)
    given = {"max_new_tokens": 4, "prompt_lookup_num_tokens": 0, **options}
    assert reopened(bundle)[0].predict(PROMPTS[:rows], **given) == model.predict(PROMPTS[:rows], **given)
    assert not watched.drafts


def test_the_model_decides_even_if_all_drafts_are_wrong(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that someone exchanged can make it slower, and no text another one."""
    model, bundle = pair
    copy = tmp_path / "copy"
    shutil.copytree(bundle.folder, copy)
    data = copy / "draft.onnx.data"
    # As float32, too, these are numbers.
    data.write_bytes(np.random.default_rng(0).integers(0x3C, 0x40, data.stat().st_size, dtype=np.uint8).tobytes())
    watched = Watched(monkeypatch)
    opened = zoo.runtime.load(copy, packed=True, verify=False)
    assert opened.predict(PROMPTS[1], **ALONE) == model.predict(PROMPTS[1], **ALONE)
    assert watched.forgotten > 3
    # It soon asks less often.
    assert len(watched.drafts) < 12


@pytest.mark.parametrize("damage", [b"", b"no graph", None])
def test_a_graph_that_can_not_be_opened_is_done_without(pair: Pair, tmp_path: Path, damage: bytes | None) -> None:
    model, bundle = pair
    copy = tmp_path / "copy"
    shutil.copytree(bundle.folder, copy)
    if damage is None:
        (copy / "draft.onnx").unlink()
    else:
        (copy / "draft.onnx").write_bytes(damage)
    opened = zoo.runtime.load(copy, packed=True, verify=False)
    with pytest.warns(RuntimeWarning, match=r"No tokens are drafted: .*draft\.onnx") as warned:
        found = opened.predict([PROMPTS[1], PROMPTS[2]], batch_size=1, **ALONE)
    assert found == model.predict([PROMPTS[1], PROMPTS[2]], **ALONE)
    assert len(warned) == 1
    with pytest.raises(BundleError):
        zoo.runtime.load(copy)


def test_one_that_is_no_quicker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(drafts, "_STEPS", 3)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Opened:
        packed = True

        def lay_out(self) -> None:
            pass

    def after(whole: list[float], drafted: list[float]) -> bool:
        draft = Draft(Opened)  # type: ignore[arg-type]
        for drafting_step, times in ((False, whole), (True, drafted)):
            for seconds in times:
                # The model's own steps come first.
                assert (draft.session() is not None) == (len(draft._whole) == 3)
                with draft.timed(drafting=drafting_step):
                    clock[0] += seconds
        return draft.session() is not None

    assert after([20.0, 10.0, 11.0], [5.0, 90.0, 7.0])
    assert not after([20.0, 10.0, 11.0], [7.0, 8.0, 9.0])


def test_it_is_laid_out_before_it_is_asked() -> None:
    class Opening:
        packed = False
        begun = 0

        def lay_out(self) -> None:
            self.begun += 1

    session: Any = Opening()
    draft = Draft(lambda: session)
    assert draft.session() is None
    assert draft.session() is None
    assert session.begun == 1
    session.packed = True
    assert draft.session() is session


def test_a_large_graph_is_laid_out_when_it_is_told_to(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.runtime.session._LARGE", 0)
    session = Session(pair[1].folder / "draft.onnx", packed=False)
    assert not session.packed
    session.lay_out()
    for _ in range(500):
        if session.packed:
            break
        time.sleep(0.01)
    assert session.packed
    session.lay_out()


def test_threads_of_two_graphs_do_not_wait_beside_each_other(pair: Pair, tmp_path: Path) -> None:
    """Those of the one that has answered would keep a core from the other."""

    def rests(folder: Path) -> str:
        options = Session(folder / "model.onnx")._session.get_session_options()
        try:
            return str(options.get_session_config_entry("session.force_spinning_stop"))
        except RuntimeError:
            return "0"

    assert rests(pair[1].folder) == "1"
    shutil.copytree(pair[1].folder, tmp_path / "copy")
    (tmp_path / "copy" / "draft.onnx").unlink()
    assert rests(tmp_path / "copy") == "0"


def test_only_what_is_rounded_stands_twice(pair: Pair) -> None:
    import onnx

    _, bundle = pair
    model, draft = (
        onnx.load(bundle.folder / name, load_external_data=False).graph for name in ("model.onnx", "draft.onnx")
    )
    products = [node for node in draft.node if node.op_type == "MatMulNBits"]
    left = [node for node in draft.node if node.op_type in ("MatMul", "Gemm")]
    assert len(products) >= 6
    # Sides of 37 are no multiple of a block.
    assert all(37 in next(t.dims for t in draft.initializer if t.name == node.input[1]) for node in left)
    files = {
        tensor.name: next(item.value for item in tensor.external_data if item.key == "location")
        for tensor in draft.initializer
        if tensor.external_data
    }
    rounded = {name: files[name] for node in products for name in node.input[1:3]}
    shared = {"shortlist.onnx.data"} if (bundle.folder / "shortlist.onnx").exists() else set()
    assert set(rounded.values()) == {"draft.onnx.data"} | shared
    assert set(files.values()) == set(rounded.values()) | {"model.onnx.data"}
    replaced = {node.output[0] for node in products}
    assert {node.output[0] for node in model.node} >= replaced
    used = {name for node in draft.node for name in node.input}
    assert {tensor.name for tensor in draft.initializer} <= used


def test_the_card_says_what_it_takes(pair: Pair) -> None:
    _, bundle = pair
    assert bundle.card.format == folders.CPU_FORMAT
    assert bundle.card.graphs is not None
    (draft,) = (graph for graph in bundle.card.graphs if graph.file == "draft.onnx")
    shapes = {item.name: item.shape for item in (*draft.inputs, *draft.outputs)}
    assert shapes["input_ids"] == shapes["position_ids"] == (1, 1)
    assert shapes["attention_mask"] == (1, "total")
    assert shapes["logits"][:2] == (1, 1)
    assert shapes["past_key_values.0.key"][0] == 1
    # As for CUDA.
    opened = open_graphs(bundle.folder, bundle.card, device="auto")
    assert isinstance(opened, CachedSession)
    assert opened.draft is None


def test_a_card_that_describes_it_wrongly_is_refused(pair: Pair, tmp_path: Path) -> None:
    text = (pair[1].folder / "zoo.yaml").read_text(encoding="utf-8")
    part = text[text.index("file: draft.onnx") :]
    other = part.replace("- 1\n    - total", "- 1\n    - past", 1)
    assert part != other
    with pytest.raises(BundleError, match=r"draft\.onnx: its card says that it takes and gives something else"):
        zoo.runtime.load(reworded(pair[1].folder, tmp_path / "copy", part, other), verify=False)


def test_a_lower_precision_does_without(pair: Pair, tmp_path: Path) -> None:
    _, bundle = pair
    made = graphs.Graphs(bundle)
    made.convert({}, frozenset(), tmp_path / "made")
    card = graphs.contract(bundle.card, tmp_path / "made")
    assert card.graphs is not None
    assert [graph.file for graph in card.graphs] == ["model.onnx", "select.onnx"]
    assert card.format == folders.CACHED_FORMAT
    old = {path.name for path in graphs.weights_of(bundle.folder, bundle.card)}
    assert {"draft.onnx", "draft.onnx.data"} < old


def test_who_has_none(pair: Pair, tmp_path: Path) -> None:
    """Small models, what is not to have one, and a model that numbers no positions."""
    assert tiny_model("gpt2", "text-generation").export(tmp_path / "small.bundle").card.format == folders.CACHED_FORMAT
    _, bundle = exported("gpt2", tmp_path, draft=False)
    assert bundle.card.format == folders.CACHED_FORMAT
    assert not list(bundle.folder.glob("draft*"))
    assert bundle.session.draft is None  # type: ignore[union-attr]
    assert pair[1].card.graphs is not None
    model = pair[1].card.graphs[0]
    uncounted = tuple(item for item in model.inputs if item.name != "position_ids")
    assert drafting.write(tmp_path / "none", structs.replace(model, inputs=uncounted)) is None


@pytest.mark.parametrize("block", [32, 64])
def test_weights_are_rounded_by_blocks(tmp_path: Path, block: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((5000, 128)).astype(np.float32)
    weights[3], weights[4, :block] = 0, 7
    with (tmp_path / "data").open("wb") as file:
        file.write(b"before")
        # As those of a product that stand the other way round.
        found = rounding.write(np.asfortranarray(weights), file, block)
    data = (tmp_path / "data").read_bytes()
    assert found.rounded.offset % 4096 == found.steps.offset % 4096 == 0

    def array(place: rounding.Place, dtype: Any) -> Array:
        raw = data[place.offset : place.offset + place.length]
        return np.frombuffer(raw, dtype).reshape(place.shape)

    steps = array(found.steps, np.float32)
    whole = array(found.rounded, np.uint8).astype(np.float32) - 128
    back = (whole * steps[..., None]).reshape(weights.shape)
    assert (np.abs(back - weights).reshape(*whole.shape) <= steps[..., None] / 2 + 1e-7).all()
    assert not back[3].any()
    np.testing.assert_allclose(found.spread, np.abs(whole).sum(axis=-1).max(axis=0))


def test_weights_that_are_multiplied_by_both_ways_round_are_rounded_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    import onnxruntime
    from onnx import helper

    monkeypatch.setattr(drafting, "LEAST", 0)
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    (tmp_path / "model.onnx.data").write_bytes(weights.tobytes())
    table = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=(64, 64), data_location=1)
    table.external_data.add(key="location", value="model.onnx.data")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["y", "turned"], ["logits"]),
    ]
    named = [helper.make_tensor_value_info(name, 1, ["batch", "length", 64]) for name in ("x", "logits")]
    made = helper.make_graph(nodes, "g", named[:1], named[1:], [table])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=10), tmp_path / "model.onnx")
    spec = folders.TensorSpec(name="x", dtype="float32", shape=("batch", "length", 64))
    places = folders.TensorSpec(name="position_ids", dtype="int64", shape=("batch", "length"))
    contract = folders.Graph(
        name="model", file="model.onnx", inputs=(spec, places), outputs=(structs.replace(spec, name="logits"),)
    )
    assert drafting.write(tmp_path, contract)
    x = np.random.default_rng(1).standard_normal((1, 1, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "draft.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    assert np.corrcoef(found.ravel(), (x @ weights @ weights.T).ravel())[0, 1] > 0.999
