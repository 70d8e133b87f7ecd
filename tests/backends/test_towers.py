"""Models with two towers against transformers: the same vectors, scores and losses on the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.test_cli import fails, ok
from tests.tiny import tiny
from zoo.errors import ConfigError, InputError, TrainingError
from zoo.index import Index
from zoo.inference import make_batch
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.clap import clap_features, fused_features, is_longer
from zoo.modalities.spectrogram import MelEncoder, whole_windows
from zoo.modalities.towers import TowersEncoder
from zoo.spec import ImageInput, MelInput
from zoo.tasks.base import LossOptions

NAMES = ("clip-vit-base-patch32", "siglip-base-patch16-224", "clap-htsat-unfused", "clap-htsat-fused")
LABELS = ["cat", "two dogs", "鳥"]
RATE = 48_000


def _make(name: str) -> zoo.Model:
    model = zoo.load(tiny(zoo.info(name)), weights=None, device="cpu", seed=0)
    # At their small initial size all vectors are nearly one.
    with torch.no_grad():
        for parameter in model.module.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0)
    return model


@pytest.fixture(scope="module")
def clip() -> zoo.Model:
    return _make(NAMES[0])


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> zoo.Model:
    return _make(request.param)


def _picture(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


def _sound(seconds: float, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def _pipeline(model: zoo.Model) -> Any:
    import transformers

    assert isinstance(model.encoder, TowersEncoder)
    siglip = model.spec.architecture == "siglip"
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model.encoder.text.tokenizer,
        pad_token=model.encoder.text.tokenizer.id_to_token(1 if siglip else model.encoder.text.pad_id),
        model_input_names=["input_ids"] if siglip else ["input_ids", "attention_mask"],
    )
    if isinstance(model.spec.input, MelInput):
        heard = transformers.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
        return transformers.pipeline(
            "zero-shot-audio-classification", model=model.module.net, tokenizer=words, feature_extractor=heard
        )
    assert isinstance(model.spec.input, ImageInput)
    size, kinds = model.spec.input.size[0], transformers
    kind = kinds.SiglipImageProcessor if siglip else kinds.CLIPImageProcessor
    options = {} if siglip else {"crop_size": {"height": size, "width": size}}
    seen = kind(size={"height": size, "width": size} if siglip else {"shortest_edge": size}, **options)
    return transformers.pipeline(
        "zero-shot-image-classification", model=model.module.net, tokenizer=words, image_processor=seen
    )


@pytest.mark.parametrize("template", [None, "a picture of {}, or so"])
def test_scores_are_those_of_upstreams_pipeline(model: zoo.Model, template: str | None) -> None:
    if model.spec.name == "clap-htsat-fused":
        pytest.skip("upstream takes one short recording of each batch, by chance, for a long one")
    # Of the size that the model sees: what resizing differs by is compared below.
    raw: Any = _sound(2.0) if model.spec.modality == "audio" else _picture(32, 32)
    options = {"hypothesis_template": template} if template else {}
    expected = _pipeline(model)(raw, candidate_labels=LABELS, **options)
    found = model.predict(raw, candidate_labels=LABELS, **options)
    assert [label for label, _ in found.top] == [item["label"] for item in expected]
    np.testing.assert_allclose([s for _, s in found.top], [item["score"] for item in expected], atol=2e-5)
    assert (found.label, found.score) == found.top[0]
    best = model.predict([raw, raw], candidate_labels=LABELS, top_k=1, **options)[1]
    # Two rows are added up in another order than one.
    assert (best.top, best.label) == (((best.label, best.score),), found.label)
    assert best.score == pytest.approx(found.score, abs=1e-6)


def test_vectors_and_loss_are_upstreams(model: zoo.Model) -> None:
    raws = [*model.task.samples()[:3], *([(_sound(12.5), RATE)] if model.spec.name == "clap-htsat-fused" else [])]
    texts = ["a cat", "中文 and tea", "x", "seven words are not one too many"][: len(raws)]
    examples = [model.task.examples(model.encoder, *row)[0] for row in zip(raws, texts, strict=True)]
    batch = make_batch(model.encoder, model.task, examples)
    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    targets = {name: torch.from_numpy(array) for name, array in batch.targets.items()}
    with torch.no_grad():
        ours = model.module(**inputs)
        expected = _upstream(model, inputs)
    side = model.task.columns[0]
    for name in (f"{side}_embeds", "text_embeds"):
        torch.testing.assert_close(ours[name], expected[name], atol=1e-5, rtol=1e-4)
        norms = torch.linalg.vector_norm(ours[name], dim=1)
        torch.testing.assert_close(norms, torch.ones(len(raws)))
    mean = model.task.loss(ours, targets, LossOptions()) / model.task.weight(batch.targets, LossOptions())
    torch.testing.assert_close(mean, _loss(model, expected), atol=1e-4, rtol=1e-4)
    vectors = model.embed([*raws, *({"text": text} for text in texts)])
    np.testing.assert_allclose(vectors[: len(raws)], expected[f"{side}_embeds"], atol=1e-5)
    np.testing.assert_allclose(vectors[len(raws) :], expected["text_embeds"], atol=1e-5)
    np.testing.assert_allclose(model.embed(texts, side="text"), vectors[len(raws) :], atol=1e-6)


def _loss(model: zoo.Model, expected: Any) -> torch.Tensor:
    if model.spec.architecture != "clap":
        found: torch.Tensor = expected.loss
        return found
    # Upstream's own turns one of the two around, so that texts are asked for twice; the paper's is of both ways.
    both = (expected.logits_per_audio, expected.logits_per_text)
    right = torch.arange(len(both[0]))
    return sum(torch.nn.functional.cross_entropy(logits, right) for logits in both) / 2  # type: ignore[return-value]


def _upstream(model: zoo.Model, inputs: dict[str, torch.Tensor]) -> Any:
    from transformers import AutoModel

    spec = model.spec
    net = AutoModel.from_config(type(model.module.net.config).from_dict(model.module.net.config.to_dict())).eval()
    net.load_state_dict(model.module.net.state_dict())
    given = dict(inputs)
    if isinstance(spec.input, ImageInput):
        mean, std = (torch.tensor(getattr(spec.input, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
        given["pixel_values"] = (given["pixel_values"].float() / 255 - mean) / std
    if spec.architecture == "siglip":
        ids = given.pop("input_ids").masked_fill(given.pop("attention_mask") == 0, 1)
        given["input_ids"] = torch.nn.functional.pad(ids, (0, 64 - ids.shape[1]), value=1)
    return net(**given, return_loss=True)


def test_rows_of_one_caption_or_image_are_not_each_others_contrast(clip: zoo.Model) -> None:
    rows = [(_picture(32, 32, i), text) for i, text in enumerate(("a cat", "a dog", "a bird"))]

    def loss(rows: list[Any]) -> float:
        examples = [clip.task.examples(clip.encoder, *row)[0] for row in rows]
        batch = make_batch(clip.encoder, clip.task, examples)
        targets = {name: torch.from_numpy(array) for name, array in batch.targets.items()}
        with torch.no_grad():
            outputs = clip.module(**{name: torch.from_numpy(array) for name, array in batch.inputs.items()})
        return float(clip.task.loss(outputs, targets, LossOptions()) / len(rows))

    alone = loss(rows)
    assert loss(rows * 3) > alone  # three times as many rivals, all but one's own
    assert loss(rows[:1] * 4) == pytest.approx(0.0, abs=1e-6)
    assert loss([(rows[0][0], "one caption"), (rows[0][0], "another of it")]) == pytest.approx(0.0, abs=1e-6)


def test_what_would_be_another_loss_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = _make(NAMES[0]), [(_picture(32, 32, i), f"number {i}") for i in range(8)]
    options = {"val": None, "lint": False, "progress": False, "max_steps": 1}
    with pytest.raises(ConfigError, match="Leave gradient_accumulation at 1"):
        model.finetune(rows, gradient_accumulation=2, **options)

    def exhausted(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model.module), "forward", exhausted)
    with pytest.raises(TrainingError, match="batch_size=4, which is another loss"):
        model.finetune(rows, **options)


def test_captions_are_learned() -> None:
    model = _make(NAMES[0])
    rows = [(Image.new("RGB", (32, 32), colour), f"all {colour}") for colour in ("red", "lime", "blue", "white")]
    options = {"augment": "none", "lint": False, "progress": False, "weight_decay": 0.0}
    model.finetune(rows, val=None, epochs=40, batch_size=4, learning_rate=1e-3, **options)
    report = model.evaluate(rows)
    assert report.metrics["mean_recall@1"] == 1.0
    assert "image_to_text_recall@1" in str(report)
    found = model.predict([raw for raw, _ in rows], candidate_labels=["red", "blue"], hypothesis_template="all {}")
    assert (found[0].label, found[2].label) == ("red", "blue")


# What goes in


@pytest.mark.parametrize("size", [(240, 320), (100, 33), (32, 50), (200, 200)])
def test_pixels_are_those_of_upstreams_processor(clip: zoo.Model, size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = _picture(*size).resize((size[1] // 8 * 2, size[0] // 8 * 2)).resize(size[::-1])
    crop = {"height": 32, "width": 32}
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop, do_normalize=False, do_rescale=False)
    expected = np.asarray(theirs(picture)["pixel_values"][0]).astype(int)
    found = clip.encoder.encode(picture)[0].inputs["pixel_values"].astype(int)
    # Where an odd number of pixels is cut off, OpenAI's own crop and ours may be one pixel from transformers'.
    shifts = [np.abs(found - np.roll(expected, (y, x), (1, 2)))[:, 2:-2, 2:-2] for y in (0, -1) for x in (0, -1)]
    assert min(np.quantile(gap, 0.99) for gap in shifts) <= 1


@pytest.mark.parametrize("seconds", [0.3, 4.0, 10.0, 17.3])
def test_claps_spectrograms_are_upstreams(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import ClapFeatureExtractor

    given, wave = zoo.info("clap-htsat-unfused").input, _sound(seconds)
    assert isinstance(given, MelInput)
    theirs = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc")
    starts = whole_windows(len(wave), 10 * RATE)
    found = MelEncoder(given).encode((wave, RATE))
    assert len(found) == len(starts) == (2 if seconds > 10 else 1)
    for window, start in zip(found, starts, strict=True):
        # What upstream draws by chance, we take in order.
        monkeypatch.setattr(np.random, "randint", lambda *_, start=start: start)
        expected = theirs(wave, sampling_rate=RATE)["input_features"][0]
        np.testing.assert_allclose(window.inputs["input_features"], expected, atol=2e-3)
    np.testing.assert_array_equal(found[0].inputs["input_features"], clap_features(wave[: 10 * RATE], given))


@pytest.mark.parametrize("seconds", [1.5, 10.005, 10.03, 25.0])
def test_clap_fuses_the_parts_that_upstream_may_draw(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import ClapFeatureExtractor

    given, wave = zoo.info("clap-htsat-fused").input, _sound(seconds)
    assert isinstance(given, MelInput)
    monkeypatch.setattr(np.random, "choice", lambda many: many[len(many) // 2])
    theirs = ClapFeatureExtractor(frequency_min=50, truncation="fusion")
    expected, longer = theirs._get_input_mel(wave.astype(np.float64), 10 * RATE, "fusion", "repeatpad")
    # In decibels; torch finds the places between frames in float32.
    np.testing.assert_allclose(fused_features(wave, given), expected, atol=1e-2)
    assert is_longer(wave, given) is bool(longer) is (seconds > 10.01)


# How it is asked


def test_a_side_is_said_where_it_is_not_the_first(clip: zoo.Model) -> None:
    picture = _picture(40, 50)
    np.testing.assert_array_equal(clip.embed(picture), clip.embed({"image": picture}))
    np.testing.assert_array_equal(clip.embed("a cat", side="text"), clip.embed({"text": "a cat"}))
    assert clip.embed([picture, {"text": "x" * 300}, picture]).shape == (3, 24)
    with pytest.raises(InputError, match=r'no file at that path. A text is given as \{"text": ...\}, or to embed\(\)'):
        clip.embed("a cat")
    with pytest.raises(ConfigError, match="side is 'audio'; this model embeds 'image' and 'text'"):
        clip.embed("a cat", side="audio")
    with pytest.raises(InputError, match="text='a cat' came where side='image'"):
        clip.embed({"text": "a cat"}, side="image")
    with pytest.raises(InputError, match="A pair of image and text has two vectors"):
        clip.embed({"image": picture, "text": "a cat"})
    with pytest.raises(ConfigError, match="takes one kind of input, image: leave side= out"):
        zoo.load(tiny(zoo.info("resnet18")), weights=None, device="cpu").embed(picture, side="image")
    with pytest.raises(ConfigError, match="own way to a vector"):
        clip.embed(picture, pooling="max")


def test_candidates_are_asked_for_and_checked(clip: zoo.Model) -> None:
    picture = _picture(40, 50)
    with pytest.raises(ConfigError, match="give the labels to choose from"):
        clip.predict(picture)
    with pytest.raises(ConfigError, match="has 'cat' twice"):
        clip.predict(picture, candidate_labels=["cat", "cat"])
    with pytest.raises(ConfigError, match="give the labels to choose from"):
        clip.predict(picture, candidate_labels=["cat", 3])
    with pytest.raises(ConfigError, match=r"give a text with \{\} where the label goes"):
        clip.predict(picture, candidate_labels=["cat"], hypothesis_template="a cat")
    with pytest.raises(ConfigError, match="Did you mean 'candidate_labels'"):
        clip.predict(picture, candidate_label=["cat"])
    with pytest.raises(InputError, match="Texts are its candidate_labels"):
        clip.predict({"text": "a cat"}, candidate_labels=["cat", "dog"])
    assert clip.predict(picture, candidate_labels="cat, dog") == clip.predict(picture, candidate_labels=("cat", "dog"))


def test_labels_are_embedded_once_and_again_when_the_weights_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, picture, seen = _make(NAMES[0]), _picture(40, 50), []
    embed = model.module.embed_text
    monkeypatch.setattr(model.module, "embed_text", lambda **inputs: seen.append(1) or embed(**inputs))
    first = model.predict([picture] * 20, candidate_labels=LABELS, batch_size=4)
    assert model.predict(picture, candidate_labels=LABELS).label == first[0].label
    assert len(seen) == 1
    model.predict(picture, candidate_labels=LABELS[:2])
    assert len(seen) == 2
    rows = [(_picture(32, 32, i), f"number {i}") for i in range(4)]
    model.finetune(rows, val=None, epochs=1, learning_rate=1e-2, lint=False, progress=False)
    saved = zoo.load(model.save(tmp_path / "saved"), device="cpu")
    options = {"candidate_labels": LABELS[:2]}
    assert model.predict(picture, **options) == saved.predict(picture, **options)


# Where it comes from, and where it goes


def test_a_checkpoint_folder_of_transformers_is_read(model: zoo.Model, tmp_path: Path) -> None:
    assert isinstance(model.encoder, TowersEncoder)
    model.module.net.save_pretrained(tmp_path)
    model.encoder.text.tokenizer.save(str(tmp_path / "tokenizer.json"))
    said: dict[str, Any] = {
        "truncation": "fusion" if "-fused" in model.spec.name else "rand_trunc",
        "frequency_min": 50,
    }
    if isinstance(model.spec.input, ImageInput):
        image = model.spec.input
        said = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
        said = {"size": {"height": 32, "width": 32}, "resample": 3} if image.crop_mode == "squash" else said
        said |= {"image_mean": image.mean, "image_std": image.std}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    again = zoo.load(tmp_path, device="cpu")
    assert (again.spec.tasks, again.spec.input, again.spec.text) == (
        model.spec.tasks,
        model.spec.input,
        model.spec.text,
    )
    assert again.spec.embedding == model.spec.embedding
    raws = model.task.samples()[:2]
    np.testing.assert_allclose(again.embed(raws), model.embed(raws), atol=1e-6)
    np.testing.assert_allclose(again.embed(LABELS, side="text"), model.embed(LABELS, side="text"), atol=1e-6)


def test_a_folder_of_images_is_searched_by_text(clip: zoo.Model, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(5):
        _picture(32, 32, i).save(photos / f"{i}.png")
    index = Index.build(clip, photos)
    asked = clip.embed("a cat", side="text")
    cosines = clip.embed([photos / name for name in index.names]) @ asked
    found = index.search(clip, "a cat", side="text", top_k=3)
    assert [item.place for item in found] == np.argsort(-cosines)[:3].tolist()
    assert index.search(clip, {"text": "a cat"}, top_k=3) == found
    assert index.search(clip, photos / "3.png", top_k=1)[0].name == "3.png"
    clip.save(tmp_path / "clip")
    ok("index", tmp_path / "clip", photos, tmp_path / "i")
    printed = json.loads(ok("search", tmp_path / "clip", tmp_path / "i", "a cat", "--side", "text", "--json"))
    assert [item["name"] for item in printed[:3]] == [item.name for item in found]
    assert "--side text" in fails("search", tmp_path / "clip", tmp_path / "i", "a cat")
    line = ok("predict", tmp_path / "clip", photos / "0.png", "--candidate-labels", "cat,dog", "--json")
    expected = clip.predict(photos / "0.png", candidate_labels=["cat", "dog"])
    assert json.loads(line)["result"]["label"] == expected.label


def test_clips_built_in_tokenizer_ends_in_its_highest_id() -> None:
    words = byte_tokenizer(style="clip")
    ids = words.encode("ab").ids
    assert ids[0] == words.token_to_id("<|startoftext|>") == 256
    assert ids[-1] == max(ids) == words.token_to_id("<|endoftext|>") == words.get_vocab_size() - 1
