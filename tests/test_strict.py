"""Reading strictly: what fits is immutable, and what does not is told all at once, each fault at its place."""

from __future__ import annotations

import copy
import pickle
from typing import Annotated, Any, ClassVar, Literal

import jsonschema
import pytest
from msgspec import Meta, field

from zoo import bundle, catalog
from zoo.errors import SpecError
from zoo.spec import ModelSpec
from zoo.strict import END, Frozen, json_schema, read


class Round(Frozen):
    kind: ClassVar[Literal["round"]] = "round"
    radius: Annotated[float, Meta(gt=0)]


class Square(Frozen):
    kind: ClassVar[Literal["square"]] = "square"
    sides: tuple[float, float]

    def __post_init__(self) -> None:
        if self.sides[0] != self.sides[1]:
            raise ValueError("the sides differ")


class Drawing(Frozen):
    name: Annotated[str, Meta(pattern=rf"^[a-z]+{END}")]
    colour: Literal["red", "blue"] = "red"
    shapes: tuple[Round | Square, ...] = ()
    frame: Square | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    width: Annotated[int, Meta(ge=1, le=100)] | None = None


WHOLE = {
    "name": "a", "colour": "blue", "shapes": [{"kind": "round", "radius": 1.5}, {"kind": "square", "sides": [1, 1]}],
    "frame": {"kind": "square", "sides": [2.0, 2.0]}, "notes": {"x": None, "y": [1, [2]]}, "width": 3,
}  # fmt: skip


SPEC: dict[str, Any] = {
    "name": "net", "modality": "text", "tasks": ["fill-mask"], "backend": "timm", "architecture": "x",
    "input": {"kind": "text", "max_length": 8},
}  # fmt: skip


def faults(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(Drawing, {**WHOLE, **changes}, where="it")
    first, *rest = str(caught.value).splitlines()
    assert first == "it is not valid:"
    return [line.removeprefix("  ") for line in rest]


def test_what_fits() -> None:
    found = read(Drawing, WHOLE, where="it")
    assert found.shapes == (Round(radius=1.5), Square(sides=(1.0, 1.0)))
    assert (found.shapes[0].kind, found.shapes[1].kind) == ("round", "square")
    assert read(Drawing, found.to_dict(), where="it") == found
    assert pickle.loads(pickle.dumps(found)) == found == copy.deepcopy(found)
    with pytest.raises(AttributeError, match="immutable"):
        found.name = "b"  # type: ignore[misc]
    # What stands within may stand there already read.
    assert read(Drawing, {**WHOLE, "frame": found.frame}, where="it") == found


def test_as_json_has_it() -> None:
    found = Drawing(name="a", shapes=read(Drawing, WHOLE, where="it").shapes, notes={"x": None, "y": (1, (2,))})
    shapes = [{"kind": "round", "radius": 1.5}, {"kind": "square", "sides": [1.0, 1.0]}]
    short = {"name": "a", "colour": "red", "shapes": shapes, "notes": {"x": None, "y": [1, [2]]}}
    assert found.to_dict(none=False) == short
    assert found.to_dict() == {**short, "frame": None, "width": None}
    # A list of its own each time: YAML would write the second as an alias of the first.
    assert found.to_dict()["shapes"] is not found.to_dict()["shapes"]


@pytest.mark.parametrize(
    ("given", "width"), [(3.0, 3), ("3", 3), (None, None)], ids=["a whole float", "a text", "none"]
)
def test_what_yaml_reads_as_something_else(given: Any, width: Any) -> None:
    assert read(Drawing, {**WHOLE, "width": given}, where="it").width == width


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a\n"}, ["name: Expected `str` matching regex '^[a-z]+$'"]),
        ({"colour": "green"}, ["colour: unknown value 'green'. Allowed: 'red', 'blue'"]),
        ({"colour": "bleu"}, ["colour: unknown value 'bleu'. Did you mean 'blue'? Allowed: 'red', 'blue'"]),
        ({"colour": 1}, ["colour: Expected `str`, got `int`"]),
        ({"width": True}, ["width: Expected `int | null`, got `bool`"]),
        ({"width": 10**30}, ["width: Expected `int` <= 100"]),
        ({"widht": 1}, ["widht: unknown key. Did you mean 'width'?"]),
        ({"frame": {"sides": [1, 2]}}, ["frame: the sides differ"]),
        ({"frame": {"kind": "round", "sides": [1, 1]}}, ["frame.kind: unknown value 'round'. Allowed: 'square'"]),
        ({"frame": {}}, ["frame.sides: it is required, and missing"]),
        ({"frame": {"sides": [1, 1], "side": 1}}, ["frame.side: unknown key. Did you mean 'sides'?"]),
        ({"frame": 3}, ["frame: Expected `object | null`, got `int`"]),
        ({"notes": {1: 2}}, ["notes: Expected `str`, got `int`"]),
        ({"shapes": [{"kind": "oval"}]}, ["shapes.0.kind: unknown value 'oval'. Allowed: 'round', 'square'"]),
        ({"shapes": [{"radius": 1}]}, ["shapes.0: Object missing required field `kind`"]),
        (
            {"shapes": [{"kind": "round", "radius": 0}, {"kind": "square", "sides": [1, "x"]}, 3], "colour": None},
            [
                "colour: Expected `str`, got `null`",
                "shapes.0.radius: Expected `float` > 0.0",
                "shapes.1.sides.1: Expected `float`, got `str`",
                "shapes.2: Expected `object`, got `int`",
            ],
        ),
    ],
)  # fmt: skip
def test_each_fault_is_told_at_its_place(changes: dict[str, Any], said: list[str]) -> None:
    assert faults(**changes) == said


def test_half_a_character_is_no_text() -> None:
    half = "\ud83d"
    said = "it holds half of a character, a surrogate without the other"
    spec = {**SPEC, "labels": ["a", half, f"b{half}"], "title": half, "weights": {"repo": "a/b", "file": half}}
    spec["decoder"] = {"max_length": 5, "prefixes": {"x": half, half: "x"}}
    with pytest.raises(SpecError) as caught:
        read(ModelSpec, spec, where="it")
    places = ["title", "weights.file", "labels.1", "labels.2", "decoder.prefixes.x", "decoder.prefixes"]
    assert str(caught.value).splitlines()[1:] == [f"  {place}: {said}" for place in places]
    assert read(ModelSpec, {**SPEC, "labels": ["\U0001f600"]}, where="it").labels == ("\U0001f600",)


def test_twenty_faults_are_enough() -> None:
    found = faults(**{f"key{place}": 1 for place in range(1000)})
    assert (len(found), found[-1]) == (21, "and 980 more")


def test_only_a_mapping_is_read() -> None:
    with pytest.raises(SpecError, match="expected a mapping of keys, got list"):
        read(Drawing, [], where="it")


def test_the_schema_takes_what_is_read_and_nothing_else() -> None:
    schema = json_schema(Drawing)
    jsonschema.validate(read(Drawing, WHOLE, where="it").to_dict(), schema)
    for changes in ({"width": 0}, {"widht": 1}, {"name": "A"}, {"shapes": [{"kind": "oval"}]}, {"frame": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**WHOLE, **changes}, schema)


def test_every_spec_of_the_catalogue_fits_the_schema() -> None:
    validator = jsonschema.Draft202012Validator(catalog.schema())
    for name in catalog.list_models():
        assert list(validator.iter_errors(catalog.info(name).to_dict())) == [], name


@pytest.mark.parametrize("model", [ModelSpec, bundle.Card])
def test_no_field_is_left_without_a_check(model: type[Frozen]) -> None:
    """Each key of a spec and of a card refuses what no key takes."""
    whole = {"kind": "bundle", "zoo": "1", "task": "fill-mask", "spec": SPEC} if model is bundle.Card else SPEC
    read(model, whole, where="it")
    for name in model.__struct_fields__:
        with pytest.raises(SpecError, match=name):
            read(model, {**whole, name: {1: object()}}, where="it")
