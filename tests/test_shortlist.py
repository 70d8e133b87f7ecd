"""The most probable token by a shortlist: always the one that all logits name, or all logits are computed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.conformance.conftest import tiny_model
from tests.test_caching import PROMPTS, Pair, outspoken, reworded
from zoo import bundle as folders
from zoo import rounding, shortlist, tracing
from zoo.errors import BundleError, ParityError
from zoo.modalities.base import Array
from zoo.precision import graphs
from zoo.runtime import BundleModel
from zoo.runtime.caching import CachedGraph, CachedSession
from zoo.runtime.model import open_graphs
from zoo.runtime.shortlist import MOST_ROWS, Shortlist
from zoo.tasks import caching


def exported(name: str, folder: Path) -> Pair:
    model = outspoken(name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shortlist, "LEAST", 0)
        patched.setattr(tracing, "INLINE_BYTES", 0)
        return model, model.export(folder / "a.bundle")


@pytest.fixture(scope="module", params=["gpt2", "pythia-70m"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """An output layer that is the embedding, and one of its own."""
    return exported(request.param, tmp_path_factory.mktemp("bundles"))


def reopened(bundle: BundleModel) -> tuple[BundleModel, CachedSession, Shortlist]:
    model = zoo.runtime.load(bundle.folder, packed=True, verify=False)
    assert isinstance(model.session, CachedSession)
    assert model.session.shortlist is not None
    return model, model.session, model.session.shortlist


class Asked:
    """How many rows shortlists were asked of, and how many told the token."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        self.told = 0
        real = Shortlist.logits

        def spied(one: Shortlist, outputs: Any, rows: int) -> Array | None:
            found = real(one, outputs, rows)
            self.rows.append(len(outputs["rest"]))
            self.told += found is not None
            assert not outputs["logits"].size, "all logits were computed, too"
            return found

        monkeypatch.setattr(Shortlist, "logits", spied)


@pytest.mark.parametrize("rows", [1, 3, len(PROMPTS)])
def test_greedy_tokens_are_those_of_torch(pair: Pair, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    asked = Asked(monkeypatch)
    expected = model.predict(PROMPTS, max_new_tokens=24, batch_size=rows)
    assert reopened(bundle)[0].predict(PROMPTS, max_new_tokens=24, batch_size=rows) == expected
    assert asked.told > 10
    assert rows in asked.rows


def test_a_shortlist_holds_what_all_logits_say(pair: Pair) -> None:
    _, bundle = pair
    _, session, _ = reopened(bundle)
    rng = np.random.default_rng(0)
    vocabulary = next(item.shape[-1] for item in bundle.card.outputs if item.name == "logits")
    assert isinstance(vocabulary, int)
    for rows, length in ((1, 1), (1, 7), (4, 1), (3, 5)):
        ids = rng.integers(0, vocabulary, (rows, length))
        places = np.arange(length)
        arrays, _ = session.step(session.first(ids, np.ones_like(ids), places), places)
        logits = arrays["logits"].reshape(rows * length, vocabulary)
        tokens, rest = arrays["candidates"], arrays["rest"]
        assert tokens.shape == (rows * length, shortlist.LENGTH)
        close = 1e-5 * float(np.abs(logits).max())
        np.testing.assert_allclose(
            arrays["candidate_logits"], np.take_along_axis(logits, tokens, axis=1), rtol=0, atol=close
        )
        others = logits.copy()
        np.put_along_axis(others, tokens, -np.inf, axis=1)
        assert (others.max(axis=1) <= rest + close).all()
        # Not only a bound, but one that tells something.
        assert (rest < logits.max(axis=1)).mean() > 0.9


def test_the_bound_holds_for_any_weights_and_states(tmp_path: Path) -> None:
    """Such as are the worst for int8: some that are a thousand times the others, all alike, and none at all."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((400, 64)).astype(np.float32)
    weights[:, 5] *= 1000
    weights[7], weights[8] = 0.0, weights[9]
    weights[20:200] = np.sign(weights[20:200]) * 0.37
    with (tmp_path / "rounded").open("wb") as file:
        (shape, start, length), (shape_of_steps, start_of_steps, length_of_steps), spread = rounding.write(
            weights, file, shortlist.BLOCK
        )
    data = (tmp_path / "rounded").read_bytes()
    rounded = np.frombuffer(data[start : start + length], np.uint8).reshape(shape).astype(np.float64) - 128
    steps = np.frombuffer(data[start_of_steps : start_of_steps + length_of_steps], np.float32).reshape(shape_of_steps)
    for scale in (0.01, 1.0, 300.0):
        states = (rng.standard_normal((50, 2, 32)) * scale).astype(np.float32)
        states[::3, 1, 4] *= 500
        step = np.abs(states).max(axis=-1, keepdims=True) / 127
        about = np.einsum("vbk,rbk,vb->rv", rounded, np.rint(states / step) * step, steps)
        exact = np.einsum("vbk,rbk->rv", weights.reshape(400, 2, 32).astype(np.float64), states)
        off = np.abs(states).sum(axis=-1) / 2 + spread * np.abs(states).max(axis=-1) / 254
        assert (np.abs(about - exact) <= np.einsum("rb,vb->rv", off, steps) * (1 + 1e-6)).all()


@pytest.mark.parametrize("options", [{"do_sample": True, "seed": 3}, {"repetition_penalty": 1.3}])
def test_what_looks_at_more_than_the_first_token_gets_all_logits(
    pair: Pair, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bundle = pair
    asked = Asked(monkeypatch)
    found = reopened(bundle)[0].predict(PROMPTS, max_new_tokens=12, **options)
    assert found == model.predict(PROMPTS, max_new_tokens=12, **options)
    assert not asked.rows


def test_texts_written_together_get_what_each_needs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    asked = Asked(monkeypatch)
    flight = reopened(bundle)[0].flight()
    assert flight is not None
    given = [{"max_new_tokens": 4, "do_sample": True, "seed": 1}, {"max_new_tokens": 20}, {"max_new_tokens": 12}]
    going = [
        flight.ticket(row, PROMPTS[row + 1], model.task.parse_options(options)) for row, options in enumerate(given)
    ]
    flight.turn(going)  # type: ignore[arg-type]
    while flight.busy:
        assert not asked.rows or flight._aboard[0] is not going[0]
        flight.turn()
    for row, options in enumerate(given):
        assert flight.result(going[row]) == model.predict(PROMPTS[row + 1], **options)  # type: ignore[arg-type]
    assert {1, 2} <= set(asked.rows)


def test_more_rows_than_it_is_quicker_for_get_all_logits(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    asked = Asked(monkeypatch)
    prompts = PROMPTS * 2
    found = reopened(bundle)[0].predict(prompts, max_new_tokens=6, batch_size=len(prompts))
    assert found == model.predict(prompts, max_new_tokens=6)
    assert len(prompts) > MOST_ROWS
    assert not asked.rows


def test_where_it_leaves_a_doubt_all_logits_are_computed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    asked: list[Any] = []
    monkeypatch.setattr(Shortlist, "logits", lambda self, outputs, rows: asked.append(outputs))
    found = reopened(bundle)[0].predict(PROMPTS[0], max_new_tokens=20, prompt_lookup_num_tokens=0)
    assert found == model.predict(PROMPTS[0], max_new_tokens=20)
    assert len(asked) == 3, "a text that is in doubt all the time asks no more"


def test_a_doubt_is_what_others_may_reach() -> None:
    listing = Shortlist(Path("a.onnx"), 10)
    outputs = {"candidates": np.array([[4, 2]]), "candidate_logits": np.array([[1.0, 2.0]], dtype=np.float32)}
    found = listing.logits({**outputs, "rest": np.array([1.5], dtype=np.float32)}, 1)
    assert found is not None
    assert (found.argmax(), found.max(), np.isfinite(found).sum()) == (2, 2.0, 2)
    for rest in (2.0, 2.5, np.nan):
        assert listing.logits({**outputs, "rest": np.array([rest], dtype=np.float32)}, 1) is None
    outputs["candidate_logits"][0, 1] = np.nan
    assert listing.logits({**outputs, "rest": np.array([0.0], dtype=np.float32)}, 1) is None


def test_one_that_is_wrong_is_found_out_before_it_is_believed(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bundle = pair
    copy = tmp_path / "copy"
    shutil.copytree(bundle.folder, copy)
    data = bytearray((copy / "shortlist.onnx.data").read_bytes())
    rng = np.random.default_rng(0)
    data[: len(data) // 2] = rng.integers(1, 255, len(data) // 2, dtype=np.uint8).tobytes()
    (copy / "shortlist.onnx.data").write_bytes(data)
    asked = Asked(monkeypatch)
    opened = zoo.runtime.load(copy, packed=True, verify=False)
    with pytest.warns(RuntimeWarning, match=r"shortlist\.onnx is wrong about its model's logits"):
        found = opened.predict(PROMPTS, max_new_tokens=12)
    assert found == model.predict(PROMPTS, max_new_tokens=12)
    assert not asked.rows


@pytest.mark.parametrize(
    ("tokens", "rows"), [([[3, -1]], 1), ([[3, 10]], 1), ([[3]], 1), ([[3, 1], [1, 2]], 1), ([[3, 1]], 2)]
)
def test_tokens_of_no_vocabulary_are_refused(tokens: list[list[int]], rows: int) -> None:
    outputs = {"candidates": np.array(tokens), "candidate_logits": np.ones((1, 2), np.float32), "rest": np.zeros(1)}
    with pytest.raises(BundleError, match="none of its vocabulary of 10"):
        Shortlist(Path("a.onnx"), 10).logits(outputs, rows)


def test_weights_that_are_not_laid_out_yet_are_not_asked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle = pair
    _, session, _ = reopened(bundle)
    monkeypatch.setattr(type(session.model), "packed", False)
    stepper = CachedGraph(session)
    stepper.narrow = True
    assert stepper._shortlist(1) is None
    monkeypatch.setattr(type(session.model), "packed", True)
    assert stepper._shortlist(1) is session.shortlist


def test_the_graph_for_all_is_without_it(pair: Pair) -> None:
    """And has the same weights, which stand once; other readers of ONNX can use it."""
    import onnx

    _, bundle = pair
    assert bundle.card.format == folders.CPU_FORMAT
    plain, listing = (
        onnx.load(bundle.folder / name, load_external_data=False) for name in ("model.onnx", "shortlist.onnx")
    )
    assert not {item.domain for item in plain.opset_import} - {""}
    assert [value.name for value in plain.graph.output] == [item.name for item in bundle.card.graphs[0].outputs]  # type: ignore[index]
    places = {
        tensor.name: sorted((item.key, item.value) for item in tensor.external_data)
        for tensor in plain.graph.initializer
        if tensor.external_data
    }
    theirs = {
        tensor.name: sorted((i.key, i.value) for i in tensor.external_data) for tensor in listing.graph.initializer
    }
    assert places
    assert {name: theirs[name] for name in places} == places
    # An int8 copy of the output layer, with a step for each 32.
    rows, width = 512, 32
    assert (bundle.folder / "shortlist.onnx.data").stat().st_size == rows * width + 4 * rows * width // 32
    card = folders.read_card(bundle.folder)
    # As for CUDA.
    opened = open_graphs(bundle.folder, card, device="auto")
    assert isinstance(opened, CachedSession)
    assert opened.shortlist is None
    assert opened.model.graph.name == "model.onnx"


def test_graphs_that_differ_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import exporting

    real = exporting._portable

    class Other:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
            return {name: array * 1.01 for name, array in self.session.run(inputs).items()}

    monkeypatch.setattr(exporting, "_portable", lambda *given: Other(real(*given)))
    with pytest.raises(ParityError, match="graph for CPUs gives other logits"):
        exported("gpt2", tmp_path)
    assert not (tmp_path / "a.bundle").exists()


def test_a_lower_precision_does_without(pair: Pair, tmp_path: Path) -> None:
    """It is of fp32's weights, and goes with them."""
    _, bundle = pair
    made = graphs.Graphs(bundle)
    made.convert({}, frozenset(), tmp_path / "made")
    card = graphs.contract(bundle.card, tmp_path / "made")
    assert card.graphs is not None
    assert [graph.file for graph in card.graphs] == ["model.onnx", "select.onnx"]
    # What an earlier version reads.
    assert (bundle.card.format, card.format) == (folders.CPU_FORMAT, folders.CACHED_FORMAT)
    assert not (tmp_path / "made" / "shortlist.onnx").exists()
    old = {path.name for path in graphs.weights_of(bundle.folder, bundle.card)}
    assert old == {"model.onnx", "model.onnx.data", "shortlist.onnx", "shortlist.onnx.data"}


@pytest.mark.parametrize(
    ("text", "other", "match"),
    [
        ("shortlist_of", "listed_of", "its card says"),
        ("- name: rest", "- name: others", "its card says"),
        ("dtype: int64\n    shape:\n    - rows", "dtype: float32\n    shape:\n    - rows", "its card says"),
        ("  file: shortlist.onnx", "  file: select.onnx", "its card says|has the graphs"),
    ],
)
def test_a_card_that_describes_it_wrongly_is_refused(
    pair: Pair, tmp_path: Path, text: str, other: str, match: str
) -> None:
    with pytest.raises(BundleError, match=match):
        zoo.runtime.load(reworded(pair[1].folder, tmp_path / "copy", text, other), verify=False)


def test_small_output_layers_have_none(tmp_path: Path) -> None:
    card = tiny_model("gpt2", "text-generation").export(tmp_path / "a.bundle").card
    assert card.format == folders.CACHED_FORMAT
    assert not shortlist.worth(7_999_999, 10_000_000)
    assert shortlist.worth(8_000_000, 160_000_000)
    assert not shortlist.worth(8_000_000, 161_000_000)


@pytest.mark.parametrize(
    ("kind", "options"), [("gemma2", {"final_logit_softcapping": 2.0, "head_dim": 16}), ("gptj", {"rotary_dim": 4})]
)
def test_logits_that_are_more_than_a_product_have_none(kind: str, options: dict[str, Any]) -> None:
    """A limit on them, and a bias."""
    import transformers

    from zoo.backends.transformers.text import TextModule

    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "num_key_value_heads": 1, "intermediate_size": 37}  # fmt: skip
    config = transformers.AutoConfig.for_model(kind, **sizes, **options)
    net = transformers.AutoModelForCausalLM.from_config(config).eval()
    spec = zoo.info("gpt2")
    assert TextModule(net, spec=spec, task="text-generation").head_weights() is None
    if kind == "gemma2":
        net.config.final_logit_softcapping = None
        assert TextModule(net, spec=spec, task="text-generation").head_weights() == 64 * 32


def test_the_states_that_a_graph_lists_are_those_of_its_logits() -> None:
    import torch

    model = tiny_model("gpt2", "text-generation")
    ids = torch.tensor([[1, 2, 3]])
    keep = torch.tensor([2])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": torch.arange(3)[None]}
    with torch.inference_mode():
        plain = model.module.cached(logits_to_keep=keep, **inputs)  # type: ignore[operator]
        shown = model.module.cached_hidden(logits_to_keep=keep, **inputs)  # type: ignore[operator]
    assert shown.keys() == {*plain, "hidden"}
    assert shown["hidden"].shape == (1, 3, model.module.net.config.hidden_size)  # type: ignore[union-attr]
    for name, array in plain.items():
        torch.testing.assert_close(shown[name], array, rtol=0, atol=1e-6)
    assert caching.LISTED not in shown
