"""Language models exported with a cache: their tokens are those of transformers' `generate`, padded on any side."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import widen
from zoo import parity
from zoo.backends.running import CachedStepper
from zoo.backends.transformers.text import TextModule
from zoo.errors import BundleError, ConfigError, InputError, ParityError
from zoo.modalities.base import Array, pad
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.results import Generation
from zoo.runtime import BundleModel
from zoo.runtime.caching import CachedGraph, CachedSession
from zoo.tasks.generation import GenerateOptions
from zoo.tasks.guessing import Lookup
from zoo.tasks.rerunning import RerunStepper

PROMPTS = ["a", "The quick brown fox met 3 engineers", "Once upon", "x y z x y z", "中文 and tea."]


def outspoken(name: str, task: str | None = "text-generation") -> zoo.Model:
    """A tiny model whose answers depend on what it read: small random weights repeat one token."""
    return widen(tiny_model(name, task), 4.0)


Pair = tuple[zoo.Model, BundleModel]


@pytest.fixture(scope="module", params=["gpt2", "qwen2.5-0.5b"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """GPT-2, and a kin of Llama's with fewer keys than queries."""
    model = outspoken(request.param)
    return model, model.export(tmp_path_factory.mktemp("bundles") / "a.bundle")


def tokens_of(model: zoo.Model, text: str) -> Array:
    return np.asarray(model.task.encode(model.encoder, text)[0].inputs["input_ids"], dtype=np.int64)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.4}])
def test_greedy_tokens_are_those_of_generate_over_ragged_prompts(pair: Pair, options: dict[str, Any]) -> None:
    import torch

    model, bundle = pair
    rows = [tokens_of(model, prompt) for prompt in PROMPTS]
    ids = torch.from_numpy(pad(rows, 0, left=True))
    mask = torch.from_numpy(pad([np.ones_like(row) for row in rows], 0, left=True))
    net: Any = model.module.net
    end = model.encoder.eos_id  # type: ignore[attr-defined]
    made = net.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=24, pad_token_id=0, eos_token_id=end,
        **options,
    )[:, ids.shape[1] :].tolist()  # fmt: skip
    expected = [tuple(row[: row.index(end)] if end in row else row) for row in made]
    found = [one.tokens for one in bundle.predict(PROMPTS, max_new_tokens=24, batch_size=len(PROMPTS), **options)]
    assert found == expected
    assert len(set(found)) == len(PROMPTS), "the test would not see a prompt that is lost"
    assert len({token for row in found for token in row}) > 5


def test_drawn_tokens_are_those_of_torch(pair: Pair) -> None:
    options = {"max_new_tokens": 12, "do_sample": True, "temperature": 1.3, "top_k": 20, "top_p": 0.9, "seed": 5}
    model, bundle = pair
    assert bundle.predict(PROMPTS, **options) == model.predict(PROMPTS, **options)


def test_padding_on_either_side_is_as_the_row_alone(pair: Pair) -> None:
    model, bundle = pair
    assert isinstance(bundle.session, CachedSession)
    rows = [tokens_of(model, prompt) for prompt in PROMPTS]
    further = np.array([[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])
    alone = np.concatenate(
        [stepped(bundle.session, [row], further[:, i : i + 1], left=True) for i, row in enumerate(rows)], axis=1
    )
    scale = float(np.abs(alone).max())
    for left in (True, False):
        together = stepped(bundle.session, rows, further, left=left)
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * scale)


def stepped(session: CachedSession, rows: list[Array], further: Array, *, left: bool) -> Array:
    """Logits after the prompts and after each further token, `[S + 1, B, V]`."""
    stepper = CachedGraph(session)
    logits = [stepper.start(pad(rows, 0, left=left), pad([np.ones_like(row) for row in rows], 0, left=left))]
    return np.stack([*logits, *(stepper.advance(column) for column in further)])


def test_whole_texts_are_answered_as_torch_does_with_padding_on_the_left(pair: Pair) -> None:
    import torch

    model, bundle = pair
    rows = [tokens_of(model, prompt) for prompt in PROMPTS]
    inputs = {
        "input_ids": pad(rows, 0, left=True), "attention_mask": pad([np.ones_like(row) for row in rows], 0, left=True)
    }  # fmt: skip
    found = bundle.session.run(inputs)["logits"]
    with torch.inference_mode():
        expected = model.module(**{name: torch.from_numpy(array) for name, array in inputs.items()})["logits"].numpy()
    real = inputs["attention_mask"].astype(bool)
    np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=1e-5 * float(np.abs(expected[real]).max()))


def test_the_cache_stays_where_the_session_computes(pair: Pair) -> None:
    import onnxruntime

    _, bundle = pair
    assert isinstance(bundle.session, CachedSession)
    stepper = CachedGraph(bundle.session)
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    stepper.start(ids, np.ones_like(ids))
    stepper.select(np.array([1]))
    stepper.advance(np.array([7]))
    held = stepper._cache
    assert held.keys() == {name for name in bundle.session.model.inputs if name.startswith("past_key_values.")}
    assert all(isinstance(value, onnxruntime.OrtValue) and value.device_name() == "cpu" for value in held.values())
    assert {value.shape()[0] for value in held.values()} == {1}
    assert {value.shape()[2] for value in held.values()} == {4}


def test_weights_stand_once_in_the_bundle(pair: Pair) -> None:
    import onnx

    model, bundle = pair
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    graph = onnx.load(bundle.folder / "model.onnx").graph
    stored = sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)
    # Biases that are equal stand once too.
    assert 0.95 * weights < stored < 1.05 * weights
    assert b"site-packages" not in (bundle.folder / "model.onnx").read_bytes(), "the exporter's tracebacks"


def test_the_prompt_s_vocabulary_is_asked_at_its_end_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle = pair
    assert isinstance(bundle.session, CachedSession)
    shapes = []
    real = bundle.session.model.run_held

    def spied(inputs: Any, held: Any) -> Any:
        arrays, kept = real(inputs, held)
        shapes.append(arrays["logits"].shape[:2])
        return arrays, kept

    monkeypatch.setattr(bundle.session.model, "run_held", spied)
    bundle.predict(PROMPTS, max_new_tokens=2, batch_size=5)
    assert shapes == [(5, 1), (5, 1)]


def test_a_cache_that_loses_its_rows_is_caught_by_the_gate(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    parity.compare(model, bundle)
    monkeypatch.setattr(CachedGraph, "select", lambda self, rows: None)
    with pytest.raises(ParityError):
        parity.compare(model, bundle)


def test_wrong_guesses_that_are_not_forgotten_are_caught_by_the_gate(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bundle = pair
    monkeypatch.setattr(CachedGraph, "forget", lambda self, count: None)
    with pytest.raises(ParityError):
        parity.compare(model, bundle)


def test_lost_positions_are_caught_by_the_gate(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.tasks import caching

    model, bundle = pair
    monkeypatch.setattr(caching, "positions", np.zeros_like)
    with pytest.raises(ParityError):
        parity.compare(model, bundle)


def test_a_graph_without_a_cache_is_read_and_answers_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What models with a state of their own get, and what earlier versions wrote."""
    monkeypatch.setattr(TextModule, "caches", False)
    model = outspoken("gpt2")
    model.export(tmp_path / "a.bundle")
    bundle = zoo.runtime.load(tmp_path / "a.bundle")
    assert (bundle.card.format, bundle.card.graphs) == (1, None)
    with bundle.stepping() as stepper:
        assert isinstance(stepper, RerunStepper)
    assert bundle.predict(PROMPTS, max_new_tokens=5) == model.predict(PROMPTS, max_new_tokens=5)
    assert "".join(bundle.stream("Once", max_new_tokens=5)) == model.predict("Once", max_new_tokens=5).text
    card = tmp_path / "a.bundle" / "zoo.yaml"
    card.write_text(card.read_text().replace("format: 1", "format: 4"))
    with pytest.raises(BundleError, match="reads formats 1 to 3"):
        zoo.runtime.load(tmp_path / "a.bundle", verify=False)


def reworded(folder: Path, target: Path, text: str, other: str) -> Path:
    """A copy of a bundle whose card says something else."""
    shutil.copytree(folder, target)
    card = (target / "zoo.yaml").read_text()
    assert text in card
    (target / "zoo.yaml").write_text(card.replace(text, other))
    return target


@pytest.mark.parametrize(
    ("text", "other", "match"),
    [
        ("  - past\n", "  - 1000000000\n", "no cache of keys and values"),
        ("- batch\n", "- 7\n", "no cache of keys and values"),
        ("- name: select\n", "- name: chosen\n", "has the graphs model, chosen"),
        ("file: select.onnx", "file: model.onnx", "its card says"),
    ],
)
def test_a_card_that_describes_no_cache_is_refused(
    pair: Pair, tmp_path: Path, text: str, other: str, match: str
) -> None:
    with pytest.raises(BundleError, match=match):
        zoo.runtime.load(reworded(pair[1].folder, tmp_path / "copy", text, other), verify=False)


def test_models_of_a_sliding_window_have_no_flat_cache() -> None:
    import transformers

    from zoo.backends.transformers.caching import can_cache

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 37,
             "num_key_value_heads": 1, "vocab_size": 64}  # fmt: skip
    make = transformers.AutoModelForCausalLM.from_config
    assert can_cache(make(transformers.AutoConfig.for_model("llama", **sizes)))
    assert not can_cache(make(transformers.AutoConfig.for_model("mistral", **sizes, sliding_window=8)))


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 2}, {"stop": ("e", "o"), "do_sample": True}])
def test_a_stream_is_the_prediction_in_pieces(pair: Pair, options: dict[str, Any]) -> None:
    for model in pair:
        for prompt in PROMPTS[:3]:
            whole = model.predict(prompt, max_new_tokens=20, **options)
            pieces, result = drained(model.stream(prompt, max_new_tokens=20, **options))
            assert "".join(pieces) == whole.text
            assert result == whole


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 2}, {"repetition_penalty": 1.3}])
def test_tokens_are_the_same_whatever_was_guessed(
    pair: Pair, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses that are wrong from the first, the third, ... token on, and right ones, over a cache with gaps."""
    for model, cached in zip(pair, (CachedStepper, CachedGraph), strict=True):
        checked: list[int] = []
        real = cached.check

        def check(self: Any, tokens: Array, real: Any = real, checked: list[int] = checked) -> Array:
            checked.append(len(tokens))
            return np.asarray(real(self, tokens))

        monkeypatch.setattr(cached, "check", check)
        given = {"max_new_tokens": 24, **options}
        plain = [model.predict(prompt, prompt_lookup_num_tokens=0, **given) for prompt in PROMPTS]
        assert not checked
        for prompt, expected in zip(PROMPTS, plain, strict=True):
            text = np.concatenate([tokens_of(model, prompt), np.array(expected.tokens, dtype=np.int64)])
            turns = itertools.cycle((0, 2, 5, 1, 4, 3))

            def guess(
                self: Lookup, so_far: Array, room: int, text: Array = text, turns: Iterator[int] = turns
            ) -> Array:
                found = np.array(text[len(so_far) :][: min(room, 5)])
                wrong = found[next(turns) :]
                wrong[:] = np.where(wrong == 5, 6, 5)
                return found

            with monkeypatch.context() as patched:
                patched.setattr(Lookup, "guess", guess)
                assert model.predict(prompt, **given) == expected
        assert len(checked) > 20
        assert len(set(checked)) > 1


def test_logits_of_several_tokens_are_those_of_one_after_another_with_gaps_behind_them(pair: Pair) -> None:
    model, bundle = pair
    for make in (lambda: CachedGraph(bundle.session), lambda: CachedStepper(model.module, "cpu")):  # type: ignore[arg-type]
        row = tokens_of(model, PROMPTS[1])[None]
        further = np.array([5, 9, 7, 11, 6, 8, 20, 13])
        plain, guessing = make(), make()
        for one in (plain, guessing):
            one.start(row, np.ones_like(row))
        expected = np.concatenate([plain.advance(np.array([token])) for token in further])
        found = [guessing.check(np.array([5, 9, 7, 99, 98]))[:3]]
        guessing.forget(2)
        found += [guessing.check(np.array([11, 97, 96, 95]))[:1]]
        guessing.forget(3)
        found += [guessing.advance(np.array([6])), guessing.check(np.array([8, 20])), guessing.advance(np.array([13]))]
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))


def test_where_numbers_depend_on_what_is_read_together_nothing_is_guessed(pair: Pair, tmp_path: Path) -> None:
    """Dynamic int8 has one scale for all tokens of a run; and without positions a gap is a distance."""
    import transformers

    _, bundle = pair
    assert CachedGraph(bundle.session).checks  # type: ignore[arg-type]
    copy = tmp_path / "int8.bundle"
    shutil.copytree(bundle.folder, copy)
    card = (copy / "zoo.yaml").read_text()
    assert card.count("precision: fp32") == 1
    (copy / "zoo.yaml").write_text(card.replace("precision: fp32", "precision: int8"))
    assert not CachedGraph(zoo.runtime.load(copy, verify=False).session).checks  # type: ignore[arg-type]
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    transformers.BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    tokenizer = byte_tokenizer(style="gpt")
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", model_max_length=64
    )
    words.save_pretrained(tmp_path / "bloom")
    bloom = zoo.load(tmp_path / "bloom", task="text-generation").export(tmp_path / "bloom.bundle")
    assert not CachedGraph(bloom.session).checks  # type: ignore[arg-type]


def drained(stream: Any) -> tuple[list[str], Generation]:
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def test_the_first_piece_comes_before_the_last_token(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle = pair
    runs: list[int] = []
    real = CachedGraph.advance
    monkeypatch.setattr(CachedGraph, "advance", lambda self, tokens: runs.append(1) or real(self, tokens))
    stream = bundle.stream("Once upon", max_new_tokens=40, do_sample=True)
    next(stream)
    assert len(runs) < 20


def test_what_can_t_be_streamed_is_refused_at_once(pair: Pair) -> None:
    _, bundle = pair
    with pytest.raises(ConfigError, match="max_tokens"):
        bundle.stream("Once", max_tokens=3)
    with pytest.raises(InputError, match="together they may be"):
        bundle.stream("Once", max_new_tokens=10_000)
    with pytest.raises(ConfigError, match="this model is for text-classification"):
        tiny_model("bert-base-cased", "text-classification").stream("Once")


@pytest.mark.parametrize("gaps", [False, True])
def test_texts_that_join_between_two_tokens_are_those_of_each_alone(
    pair: Pair, gaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gaps: in the cache of the first, from guesses that are wrong."""
    bundle = pair[1]
    alone = [bundle.predict(prompt, max_new_tokens=10) for prompt in PROMPTS]
    if gaps:
        monkeypatch.setattr(Lookup, "guess", lambda self, text, room: np.array([7, 11, 7][: max(room, 0)]))
    for turns in ((0, 0, 2, 2, 4), (4, 3, 2, 1, 0), (0, 30, 30, 31, 60)):
        flight = bundle.flight()
        assert flight is not None
        passengers: list[Any] = [flight.ticket(0, prompt, GenerateOptions(max_new_tokens=10)) for prompt in PROMPTS]
        for turn in range(max(turns) + 11):
            flight.turn([one for one, when in zip(passengers, turns, strict=True) if when == turn])
        assert [flight.result(one) for one in passengers] == alone
        assert not flight.busy


def test_a_cache_that_others_join_is_no_longer_than_its_rows_need(pair: Pair) -> None:
    model, bundle = pair
    assert isinstance(bundle.session, CachedSession)
    long, short, other = (tokens_of(model, prompt) for prompt in ("x y z " * 9, "Once upon", "a tea"))
    assert len(long) > len(other) + 6

    def read(*rows: Array) -> CachedGraph:
        stepper = CachedGraph(bundle.session)  # type: ignore[arg-type]
        stepper.start(pad(list(rows), 0, left=True), pad([np.ones_like(row) for row in rows], 0, left=True))
        return stepper

    together = read(long, short)
    together.join(read(other))
    assert together._mask.sum(axis=1).tolist() == [len(long), len(short), len(other)]
    together.select(np.array([2, 1]))
    together.join(read(other))
    width = max(len(short), len(other))
    assert together._mask.shape == (3, width)
    assert {np.asarray(value).shape[2] for value in together._cache.values()} == {width}
    found = together.advance(np.array([5, 6, 7]))
    expected = np.concatenate([read(row).advance(np.array([t])) for row, t in ((other, 5), (short, 6), (other, 7))])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
