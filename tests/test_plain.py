"""YAML by libyaml and by Python alone: the same data, and the same refusals."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from zoo import catalog, plain
from zoo.errors import SpecError

TEXTS = {
    "nothing": "",
    "kinds": "a: 1\nb: [1.5, yes, null, 2020-01-02, 'no', 0x10]\nc: |\n  two\n  lines\n",
    "any script": "labels: [\u72ac, \u0939\u093f, \U0001f600]",
    "an alias": "a: &x [1]\nb: [*x, *x]",
    "an alias of a number": "a: &x 1\nb: [*x, *x]",
    "as deep as may be": "[" * 63 + "1" + "]" * 63,
}
REFUSED = {
    "a key twice": "a: 1\na: 2",
    "too deep": "[" * 100 + "]" * 100,
    "a number too deep": "[" * 64 + "1" + "]" * 64,
    "deep without an end": "[" * 100_000,
    "an alias within itself": "a: &a [*a]",
    "a bomb": "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
    "an object": "!!python/object/apply:os.system [ls]",
    "a NUL": "a: \0",
    "half a character": "a: \ud800",
    "no end": "a: [1",
    "a date that is none": "a: 2020-99-99",
    "a key that is no key": "{{a: 1}: 2}",
    "a tab": "a:\n\t- 1",
}


@pytest.fixture(params=["libyaml", "python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(plain, "_Loader", plain._PythonLoader)
    elif plain._Loader is plain._PythonLoader:
        pytest.skip("this PyYAML was built without libyaml")


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_read(loader: None, name: str) -> None:
    assert plain.load_yaml(TEXTS[name], where="it") == yaml.safe_load(TEXTS[name])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(loader: None, name: str) -> None:
    with pytest.raises(SpecError, match="it is not readable YAML"):
        plain.load_yaml(REFUSED[name], where="it")


def test_an_error_names_its_line(loader: None) -> None:
    with pytest.raises(SpecError, match="line 3, column 1"):
        plain.load_yaml("a: 1\nb: 2\na: 3", where="it")


def test_both_read_the_catalogue_alike() -> None:
    for path in catalog._files().values():
        text = path.read_text(encoding="utf-8")
        loader: Any = plain._PythonLoader
        assert plain.load_yaml(text, where="it") == yaml.load(text, Loader=loader)
