"""`zoo.load` and the handle: where a model comes from, what its head is, what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import tiny
from zoo.errors import (
    BundleError,
    ConfigError,
    DataError,
    DeviceError,
    InputError,
    UnknownModel,
    UnsafeWeights,
    WeightsUnavailable,
)

ROWS = [(f"{word} film number {n}", label) for n in range(6) for word, label in (("good", "pos"), ("bad", "neg"))]


def text_model(**options: object) -> zoo.Model:
    spec = tiny(zoo.info("bert-base-cased"))
    return zoo.load(spec, weights=None, device="cpu", seed=0, **options)  # type: ignore[arg-type]


# --- names and folders


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(UnknownModel, match=r"'resnet5'.*'resnet50'") as caught:
        zoo.load("resnet5", weights=None)
    assert isinstance(caught.value, KeyError)


def test_a_path_that_is_not_there_says_what_load_takes(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="is not there"):
        zoo.load(tmp_path / "nowhere")
    (tmp_path / "net.safetensors").write_text("x")
    with pytest.raises(UnknownModel, match="weights="):
        zoo.load(str(tmp_path / "net.safetensors"))


def test_a_bare_name_is_the_catalogues_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model("resnet18").save("resnet50")
    tiny_model("resnet18").save("flowers")
    assert zoo.load("resnet50", weights=None, device="cpu").spec.name == "resnet50"
    assert zoo.load("./resnet50").spec.name == "resnet18"
    assert zoo.load("flowers").spec.name == "resnet18"


def test_a_saved_model_whose_weights_changed_by_a_bit_is_refused(tmp_path: Path) -> None:
    tiny_model("resnet18").save(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="bytes have changed"):
        zoo.load(tmp_path / "m")


def test_a_transformers_folder_is_loaded_with_its_tokenizer(minilm_folder: Path) -> None:
    model = zoo.load(minilm_folder, device="cpu")
    near, far = (
        model.embed(["A man is eating food.", "The girl plays the violin."]),
        model.embed("Someone eats a meal."),
    )
    similarity = near @ far / np.linalg.norm(near, axis=1) / np.linalg.norm(far)
    assert similarity[0] > 0.6 > 0.2 > similarity[1]


# --- weights


def test_a_weights_file_is_taken_and_the_same_as_what_was_saved(tmp_path: Path) -> None:
    model = tiny_model("resnet18")
    # Convolutions lie channels-last, which safetensors has no word for.
    state = {name: tensor.contiguous() for name, tensor in model.module.net.state_dict().items()}
    save_file(state, tmp_path / "net.safetensors")
    again = zoo.load(model.spec, weights=tmp_path / "net.safetensors", device="cpu")
    image = model.task.samples()[0]
    assert again.predict(image) == model.predict(image)


def test_a_pickle_of_tensors_is_read_and_one_with_code_is_refused(tmp_path: Path) -> None:
    model = tiny_model("resnet18")
    torch.save(model.module.net.state_dict(), tmp_path / "net.pth")
    zoo.load(model.spec, weights=tmp_path / "net.pth", device="cpu")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(str(tmp_path / "ran")),))  # type: ignore[return-value]

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    with pytest.raises(UnsafeWeights):
        zoo.load(model.spec, weights=tmp_path / "evil.pth", device="cpu")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_name_what_differs(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "net.safetensors")
    with pytest.raises((zoo.SpecError, WeightsUnavailable), match="conv1"):
        zoo.load(tiny(zoo.info("resnet18")), weights=tmp_path / "net.safetensors", device="cpu")
    with pytest.raises(WeightsUnavailable, match="no weights file"):
        zoo.load("resnet18", weights=tmp_path / "typo.safetensors")


def test_a_seed_makes_random_weights_the_same() -> None:
    first, second = (next(text_model().module.parameters()) for _ in range(2))
    assert torch.equal(first, second)


# --- tasks, labels, heads


def test_a_task_a_model_cannot_do_lists_those_it_can() -> None:
    with pytest.raises(ConfigError, match="image-classification, feature-extraction"):
        zoo.load("resnet18", weights=None, task="text-generation")
    with pytest.raises(ConfigError, match="image-classification"):
        zoo.load("resnet18", weights=None, task="image-clasification")


def test_a_head_without_labels_cannot_predict_and_says_what_to_do() -> None:
    model = text_model(task="text-classification")
    with pytest.raises(ConfigError, match="Fine-tune it first, or give load"):
        model.predict("text")
    assert model.embed("text").shape == (32,)


def test_labels_given_twice_or_as_one_string_are_refused() -> None:
    for wrong in (["a", "a"], "ab", []):
        with pytest.raises(ConfigError, match="different names"):
            text_model(task="text-classification", labels=wrong)


def test_the_head_is_rebuilt_from_the_datas_labels_and_the_body_kept(tmp_path: Path) -> None:
    model = text_model()
    body = model.module.net.state_dict()["embeddings.word_embeddings.weight"].clone()
    result = model.finetune(ROWS, val=None, max_steps=1, learning_rate=1e-12, weight_decay=0.0, output_dir=tmp_path)
    assert result is model
    assert model.labels == ("neg", "pos")
    assert model.spec.labels == ("neg", "pos")
    assert model.task.name == "text-classification"
    found = next(v for k, v in model.module.net.state_dict().items() if k.endswith("word_embeddings.weight"))
    torch.testing.assert_close(found, body, atol=1e-6, rtol=0)
    assert model.predict("good film").label in model.labels


def test_it_learns(tmp_path: Path) -> None:
    model = text_model().finetune(ROWS, val=ROWS, epochs=12, learning_rate=3e-3, batch_size=4, output_dir=tmp_path)
    assert model.evaluate(ROWS).metrics["accuracy"] == 1.0
    assert len(model.history) <= 12
    model.save(tmp_path / "saved")
    again = zoo.load(tmp_path / "saved")
    assert again.history == model.history
    assert [r.label for r in again.predict([text for text, _ in ROWS])] == [label for _, label in ROWS]


def test_finetuning_defaults_of_the_spec_give_way_to_options() -> None:
    from zoo.learning import choose
    from zoo.training.config import TrainConfig

    assert choose(None, {"epochs": 7, "learning_rate": 1e-5}, {"learning_rate": 2e-5}).epochs == 7
    assert choose(None, {"epochs": 7, "learning_rate": 1e-5}, {"learning_rate": 2e-5}).learning_rate == 2e-5
    with pytest.raises(ConfigError, match="not both"):
        choose(TrainConfig(), {}, {"epochs": 1})


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, (1e-5, 1e-3)),
        ({"optimizer": "muon"}, (1e-5, 1e-3)),
        ({"optimizer": "lion"}, (None, None)),
        ({"method": "lora"}, (None, None)),
        ({"method": "head"}, (None, None)),
        ({"method": "lora", "learning_rate": 2e-4}, (2e-4, None)),
        ({"learning_rate": 2e-5}, (2e-5, 1e-3)),
        ({"head_lr_scale": 10.0}, (1e-5, None)),
    ],
)
def test_a_models_own_rates_are_adamws_for_all_of_it(options: Any, rates: Any) -> None:
    from zoo.learning import choose

    own = {"epochs": 7, "learning_rate": 1e-5, "head_learning_rate": 1e-3}
    config = choose(None, own, options)
    assert (config.learning_rate, config.head_learning_rate) == rates
    assert config.epochs == 7


def test_data_that_cannot_train_is_refused_before_training(tmp_path: Path) -> None:
    model = text_model()
    with pytest.raises(DataError, match=r"one label .x."):
        model.finetune([("a", "x"), ("b", "x")], val=None, output_dir=tmp_path)
    with pytest.raises(DataError):
        model.finetune([], output_dir=tmp_path)
    with pytest.raises(DataError, match="neutral"):
        model.finetune(ROWS, val=[("meh", "neutral")], output_dir=tmp_path)
    with pytest.raises(ConfigError, match="learning_rate"):
        model.finetune(ROWS, learning_rat=1e-3, output_dir=tmp_path)


# --- predict


def test_one_in_one_out_and_a_list_in_order() -> None:
    model = text_model(task="text-classification", labels=["a", "b", "c"])
    texts = ["one", "a much longer text " * 9, "", "three words here"] * 5
    together = model.predict(texts)
    assert [r.label for r in together] == [model.predict(text).label for text in texts]
    assert together[0].top[0] == (together[0].label, together[0].score)
    assert sum(pair.score for pair in together[0].top) == pytest.approx(1.0, abs=1e-5)
    assert len(model.predict("one", top_k=2).top) == 2
    assert model.predict([]) == []


def test_predict_iter_is_lazy_over_an_endless_source() -> None:
    model = text_model(task="text-classification", labels=["a", "b"])

    def endless() -> Iterator[str]:
        while True:
            yield "text"

    stream = model.predict_iter(endless(), batch_size=2)
    assert [next(stream).label for _ in range(3)]
    with pytest.raises(ConfigError, match="use predict"):
        model.predict_iter("one text")


def test_a_bad_input_is_an_error_in_its_place_or_raises(tmp_path: Path) -> None:
    model = tiny_model("resnet18")
    good = model.task.samples()[0]
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    results = model.predict([good, tmp_path / "bad.jpg", good], on_error="return")
    assert isinstance(results[1], zoo.results.RowError)
    assert results[1].row == 1
    assert "bad.jpg" in results[1].input
    assert results[0] == results[2]
    with pytest.raises(InputError, match=r"row 1.*bad\.jpg"):
        model.predict([good, tmp_path / "bad.jpg"])


def test_a_hundred_thousand_characters_are_read_in_windows() -> None:
    text = "Ada Lovelace lives in London. " * 3400
    model = text_model(task="token-classification", labels=["O", "B-PER", "I-PER"])
    entities = model.predict(text)
    assert all(text[e.start : e.end] == e.text for e in entities)
    assert text_model(task="text-classification", labels=["a", "b"]).predict(text).label in ("a", "b")
    assert np.isfinite(text_model().embed(text)).all()


def test_a_prompt_that_leaves_no_room_is_refused_not_cut() -> None:
    model = tiny_model("gpt2")
    limit = model.spec.input.max_length  # type: ignore[union-attr]
    with pytest.raises(InputError, match="max_new_tokens"):
        model.predict("x" * (limit - 2), max_new_tokens=10)
    with pytest.raises(InputError, match="longer than the model can see"):
        model.predict("x" * (limit + 1))
    errors = model.predict(["ok", "x" * (limit + 1)], max_new_tokens=2, on_error="return")
    assert [type(e).__name__ for e in errors] == ["Generation", "RowError"]


def test_generation_does_not_depend_on_its_batch_and_takes_a_seed() -> None:
    model = tiny_model("gpt2")
    prompts = ["once", "a longer prompt than that", "x"]
    options = {"max_new_tokens": 5, "do_sample": True, "temperature": 1.5, "top_p": 0.9, "seed": 4}
    together = model.predict(prompts, **options)
    assert [model.predict(p, **options).tokens for p in prompts] == [r.tokens for r in together]
    assert model.predict("once", **{**options, "seed": 5}).tokens != together[0].tokens
    with pytest.raises(ConfigError, match="max_new_tokens"):
        model.predict("once", max_tokens=3)


# --- embed, device, show


def test_embed_pools_and_normalises_as_asked() -> None:
    model = text_model()
    vectors = model.embed(["one", "two words"], normalize=True)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert not np.allclose(model.embed("one", pooling="cls"), model.embed("one", pooling="mean"))
    with pytest.raises(ConfigError, match="mean"):
        model.embed("one", pooling="average")  # type: ignore[arg-type]
    minilm = tiny_model("all-minilm-l6-v2")
    assert np.linalg.norm(minilm.embed("one", normalize=False)) != pytest.approx(1.0, abs=1e-3)
    assert np.linalg.norm(minilm.embed("one")) == pytest.approx(1.0, abs=1e-5)


def test_a_device_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(DeviceError, match="zoo doctor"):
        text_model().to("cuda")
    with pytest.raises(DeviceError):
        text_model().to("abacus")


def test_the_handle_and_its_spec_print_as_cards() -> None:
    model = text_model(task="text-classification", labels=["a", "b"])
    assert repr(model) == "<Model 'bert-base-cased': text-classification, 2 labels, on cpu>"
    assert "license" in str(zoo.info("resnet50"))
    assert "learning_rate" in str(zoo.Model.finetune.__signature__)  # type: ignore[attr-defined]


# --- what it computes in


@pytest.mark.parametrize(
    ("name", "task"),
    [("bert-base-cased", "text-classification"), ("resnet18", "image-classification"), ("wav2vec2-base", None)],
)
def test_in_bf16_answers_are_near_those_in_fp32_and_not_the_same(name: str, task: str | None) -> None:
    model = tiny_model(name, task)
    raws = model.task.samples()[:3]
    found = []
    for precision in ("fp32", "bf16"):
        model.precision = precision
        options = model.task.parse_options({})
        rows = [row.outputs for row in model.outcomes(raws, options, batch_size="auto", on_error="raise")]
        outputs = [np.ravel(window[model.task.output]) for windows in rows for window in windows]
        found.append((np.concatenate(outputs), model.embed(raws)))
    for exact, less in zip(*found, strict=True):
        assert less.dtype == np.float32
        assert 0 < np.abs(exact - less).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("name", ["gpt2", "t5-small"])
def test_what_writes_computes_its_tokens_in_bf16_too(name: str) -> None:
    model = tiny_model(name)
    options = model.task.parse_options({})
    windows = [model.task.encode(model.encoder, raw, options)[0] for raw in model.task.samples()[:2]]
    tokens = np.full((2, len(windows)), 5)
    exact = model.steps(windows, tokens)
    model.precision = "bf16"
    less = model.steps(windows, tokens)
    assert 0 < np.abs(exact - less).max() < 0.05 * np.abs(exact).max()


def test_what_is_measured_is_computed_in_bf16_too() -> None:
    model = text_model(task="text-classification", labels=["neg", "pos"])
    seen: list[bool] = []
    model.module.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    for model.precision in ("fp32", "bf16"):
        model.evaluate(ROWS)
    assert seen == [False, True]


def test_a_bundle_of_a_model_in_bf16_is_compared_with_answers_in_fp32(tmp_path: Path) -> None:
    model = text_model(task="text-classification", labels=["neg", "pos"])
    exact = [result.top[0].score for result in model.predict([text for text, _ in ROWS])]
    model.precision = "bf16"
    bundle = model.export(tmp_path / "a.bundle")
    assert [result.top[0].score for result in bundle.predict([text for text, _ in ROWS])] == pytest.approx(
        exact, abs=1e-5
    )


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 'int8'; use one of: fp32, bf16, fp16"):
        text_model(precision="int8")
