"""Specs: strict at the border, frozen within, equal after a round trip."""

from __future__ import annotations

from typing import Any

import pytest

from zoo import catalog
from zoo.errors import SpecError
from zoo.plain import dump_yaml, load_yaml
from zoo.spec import AudioInput, ImageInput, ModelSpec, TextInput

MINIMAL = """
name: net
modality: vision
tasks: [image-classification]
backend: timm
architecture: resnet18
input: {kind: image, size: [32, 32], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
"""


def data(**changes: Any) -> dict[str, Any]:
    return {**load_yaml(MINIMAL, where="test"), **changes}


def parse(**changes: Any) -> ModelSpec:
    return ModelSpec.parse(dump_yaml(data(**changes)), where="net.yaml")


def test_defaults_of_a_minimal_spec() -> None:
    spec = ModelSpec.parse(MINIMAL)
    assert isinstance(spec.input, ImageInput)
    assert (spec.input.interpolation, spec.input.crop_pct, spec.input.crop_mode) == ("bicubic", 0.875, "center")
    assert (spec.weights, spec.labels, spec.parameters, spec.aliases) == (None, None, None, ())
    assert (spec.embedding.pooling, spec.embedding.normalize) == ("mean", False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inptu": {}}, "inptu: unknown key. Did you mean 'input'"),
        ({"licence": "mit"}, "licence: unknown key. Did you mean 'license'"),
        ({"weights": {"repo": "a/b", "revison": "main"}}, "weights.revison: unknown key. Did you mean 'revision'"),
        ({"input": {"kind": "text", "max_lenght": 3}}, "max_lenght: unknown key. Did you mean 'max_length'"),
        ({"modality": "image"}, "modality"),
        ({"tasks": []}, "tasks"),
        ({"tasks": ["image-clasification"]}, "tasks.0"),
        ({"backend": "zoo.backends.timm.build"}, "backend"),
        ({"name": "Net"}, "name"),
        ({"name": "../net"}, "name"),
        ({"parameters": 0}, "parameters"),
        ({"weights": {"repo": "a/b/c"}}, "weights.repo"),
        ({"weights": {"repo": "a/b", "sha256": "12"}}, "weights.sha256"),
        ({"input": {"kind": "text", "max_length": 0}}, "max_length"),
        ({"input": {"kind": "text", "max_length": 8}}, "takes input of kind 'image', not 'text'"),
        ({"input": {"kind": "video"}}, "input"),
    ],
)
def test_a_wrong_key_or_value_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("net.yaml is not valid")


def test_every_fault_is_listed_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse(inptu=1, parameters=-1, backend="jax")
    assert all(key in str(caught.value) for key in ("inptu", "parameters", "backend"))


def test_spec_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="expected a mapping of keys, got list"):
        ModelSpec.parse("- a\n- b")


def test_broken_yaml_says_where() -> None:
    with pytest.raises(SpecError, match=r"(?s)net.yaml is not readable YAML.*line 2"):
        ModelSpec.parse("name: net\ntasks: [a", where="net.yaml")
    with pytest.raises(SpecError, match=r"(?s)key 'name' is given twice.*line 2"):
        load_yaml("name: a\nname: b", where="net.yaml")
    with pytest.raises(SpecError, match="'size' is given twice"):
        load_yaml("input: {size: 1, size: 2}", where="net.yaml")


def test_yaml_runs_no_code() -> None:
    with pytest.raises(SpecError, match="not readable YAML"):
        load_yaml("!!python/object/apply:os.system ['true']", where="net.yaml")


def test_labels_are_texts_in_order() -> None:
    spec = parse(labels=["no", 1, "1.0", "ja"])
    assert spec.labels == ("no", "1", "1.0", "ja")
    assert spec.id2label == {0: "no", 1: "1", 2: "1.0", 3: "ja"}
    assert parse(labels="imagenet-1k").id2label == {}


def test_frozen() -> None:
    spec = ModelSpec.parse(MINIMAL)
    with pytest.raises(AttributeError, match="immutable"):
        spec.name = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        spec.input.size = (1, 1)  # type: ignore[union-attr]


def test_evolve_validates() -> None:
    spec = ModelSpec.parse(MINIMAL)
    assert spec.evolve(labels=("a", "b")).labels == ("a", "b")
    assert spec.labels is None
    with pytest.raises(SpecError, match=r"labls: unknown key. Did you mean 'labels'"):
        spec.evolve(labls=("a", "b"))
    with pytest.raises(SpecError, match="modality"):
        spec.evolve(modality="text")


@pytest.mark.parametrize("name", catalog.list_models())
def test_yaml_round_trip(name: str) -> None:
    spec = catalog.info(name)
    resolved = spec.evolve(labels=catalog.labels(spec) or None)
    assert ModelSpec.parse(spec.to_yaml()) == spec
    assert ModelSpec.parse(resolved.to_yaml()) == resolved


def test_round_trip_of_awkward_labels() -> None:
    labels = ("yes", "no", "1", "null", "", " ", "a: b", "#x", "'", '"', "|", "été", "日本", "🙂", "[PAD]", "~")
    assert ModelSpec.parse(parse(labels=list(labels)).to_yaml()).labels == labels


def test_input_kinds() -> None:
    text = parse(modality="text", tasks=["text-generation"], input={"kind": "text", "max_length": 8}).input
    hertz = {"kind": "audio", "sampling_rate": 8000}
    sound = parse(modality="audio", tasks=["audio-classification"], input=hertz).input
    assert isinstance(text, TextInput)
    assert text.padding_side == "right"
    assert isinstance(sound, AudioInput)
    assert (sound.normalize, sound.max_seconds) == (True, 30.0)


def test_the_card_says_what_a_user_looks_for() -> None:
    card = str(catalog.info("resnet50"))
    assert card.splitlines()[0] == "resnet50 (vision)"
    for fact in ("image-classification", "timm/resnet50.a1_in1k@main", "25.6 M", "size=(224, 224)", "apache-2.0"):
        assert fact in card
    assert "3: a, b, c" in str(parse(labels=["a", "b", "c"]))
    assert "6: a, b, c, d, e, ..." in str(parse(labels=list("abcdef")))
