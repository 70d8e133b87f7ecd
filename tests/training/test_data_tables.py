"""Tables in files: csv, tsv, jsonl, parquet."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ConfigError, DataError
from zoo.training.data import Rows, read

TEXT = ("text-classification", "token-classification", "feature-extraction")
SPEECH = ("audio-classification", "automatic-speech-recognition")


def rows_of(data: Any, *, tasks: Any = TEXT, **options: Any) -> Rows:
    return read(data, tasks=tasks, **options).splits["train"]


@pytest.fixture
def table(tmp_path: Path) -> Any:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_csv_columns_by_name(table: Any, start: str, end: str) -> None:
    path = table("reviews.csv", start + end.join(["id,label,text", "1,pos,good", '2,neg,"bad, very"', ""]))
    dataset = read(path, tasks=TEXT)
    rows = dataset.splits["train"]
    assert dataset.task == rows.task == "text-classification"
    assert [(row.input, row.target) for row in rows] == [("good", "pos"), ("bad, very", "neg")]
    assert rows[1].where == f"{path} row 3"
    assert rows.columns == ("id", "label", "text")


def test_rows_are_counted_as_a_spreadsheet_does(table: Any) -> None:
    path = table("r.csv", 'text,label\n"two\nlines",a\n\nlast,b\n')
    rows = rows_of(path)
    assert rows[0].input == "two\nlines"
    assert rows[0].where.endswith("r.csv row 2")
    # Header, the quoted text on two lines, the empty row, and this.
    assert rows[1].where.endswith("r.csv row 4 (line 5)")


def test_semicolons_are_seen_in_the_header(table: Any) -> None:
    assert rows_of(table("r.csv", "text;label\na, b;x\nc;y\n"))[0].input == "a, b"


def test_a_document_longer_than_the_csv_module_allows(table: Any) -> None:
    before = csv.field_size_limit()
    assert len(rows_of(table("r.csv", f"text,label\n{'a' * 300_000},x\nb,y\n"))[0].input) == 300_000
    assert csv.field_size_limit() == before


def test_tsv_with_and_without_quoting(table: Any) -> None:
    quoted = rows_of(table("a.tsv", 'text\tlabel\n"say ""hi"""\tx\nb\ty\n'))
    assert quoted[0].input == 'say "hi"'
    bare = rows_of(table("b.tsv", 'text\tlabel\n"Great" movie\tx\n"open\ty\nend"\tx\n'))
    assert [row.input for row in bare] == ['"Great" movie', '"open', 'end"']


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_a_byte_that_is_not_utf8_is_named(table: Any, name: str) -> None:
    good, bad = b'{"text": "ok", "label": "a"}\n', b'{"text": "caf\xe9", "label": "b"}\n'
    content = b"text,label\nok,a\ncaf\xe9,b\n" if name == "r.csv" else good * 2 + bad
    path = table(name, content)
    with pytest.raises(DataError, match=rf"{name} row 3: byte {content.index(0xE9)} \(0xE9\)") as caught:
        rows_of(path)
    assert caught.value.row == 3


def test_a_bad_byte_far_into_a_file_after_quoted_newlines(table: Any) -> None:
    content = b"text,label\n" + b'"one\nrow",a\n' * 20_000 + b"\xff,b\n"
    with pytest.raises(DataError, match=f"row 20002: byte {len(content) - 4} "):
        rows_of(table("r.csv", content))


def test_utf16_is_recognised(table: Any) -> None:
    with pytest.raises(DataError, match="looks like UTF-16"):
        rows_of(table("r.csv", "text,label\na,b\n".encode("utf-16")))


def test_missing_columns_are_suggested(table: Any) -> None:
    path = table("r.csv", "review,stars\ngood,5\nbad,1\n")
    with pytest.raises(DataError) as caught:
        rows_of(path)
    message = str(caught.value)
    assert "It has: 'review', 'stars'" in message
    assert 'columns={"text": "review", "label": "stars"}' in message
    rows = rows_of(path, columns={"text": "review", "label": "stars"})
    assert [(row.input, row.target) for row in rows] == [("good", "5"), ("bad", "1")]


def test_columns_that_are_not_there(table: Any) -> None:
    path = table("r.csv", "review,stars\ngood,5\n")
    with pytest.raises(DataError, match=r"no column 'reviews'.*Did you mean 'review'"):
        rows_of(path, columns={"text": "reviews", "label": "stars"})
    with pytest.raises(ConfigError, match=r"'txt' is not a role.*Did you mean 'text'"):
        rows_of(path, columns={"txt": "review"})


def test_columns_choose_over_one_of_the_same_name(table: Any) -> None:
    path = table("r.csv", "text,body,label\nno,yes,a\nno,yes too,b\n")
    assert rows_of(path, columns={"text": "body"})[0].input == "yes"


def test_a_column_twice(table: Any) -> None:
    with pytest.raises(DataError, match="2 columns 'text'"):
        rows_of(table("r.csv", "text,text,label\na,b,c\n"))


def test_empty_cells_are_named(table: Any) -> None:
    path = table("r.csv", "text,label\na,x\nb,\n ,y\nc,y\n")
    with pytest.raises(DataError, match=r"row 3, column 'label': the cell is empty\. 1 more of 4 .*: 4\.") as caught:
        rows_of(path)
    assert (caught.value.row, caught.value.column) == (3, "label")
    rows = rows_of(path, on_error="skip")
    assert [row.input for row in rows] == ["a", "c"]
    assert len(rows.skipped) == 2
    assert "row 4, column 'text'" in rows.skipped[1]
    with pytest.raises(DataError, match="no row that can be used"):
        rows_of(table("none.csv", "text,label\n,\n"), on_error="skip")


def test_a_ragged_row_among_thousands_is_named(table: Any) -> None:
    lines = ["text,label", *("ok,a" for _ in range(7310)), "one, two,b", "ok,c", ""]
    with pytest.raises(DataError, match=r"reviews\.csv row 7312: the row has 3 cells and the header 2; quote"):
        rows_of(table("reviews.csv", "\n".join(lines)))


def test_a_quote_that_never_closes_is_named(table: Any) -> None:
    with pytest.raises(DataError, match=r"row 3 \(line 3\)"):
        rows_of(table("r.csv", 'text,label\na,x\n"b,y\nc,z\n'))


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.jsonl"])
def test_empty_files(table: Any, name: str) -> None:
    with pytest.raises(DataError, match=r"empty|no rows"):
        rows_of(table(name, ""))


def test_a_header_alone(table: Any) -> None:
    with pytest.raises(DataError, match="no rows"):
        rows_of(table("r.csv", "text,label\n"))


def test_jsonl(table: Any) -> None:
    path = table("r.jsonl", '\ufeff{"text": "a\u2028b", "label": 1}\n\n{"label": 0, "text": "c", "extra": [1]}\n')
    rows = rows_of(path)
    assert [(row.input, row.target) for row in rows] == [("a\u2028b", 1), ("c", 0)]
    assert rows[1].where == f"{path} row 3"


def test_bad_lines_of_jsonl_are_named_and_can_be_skipped(table: Any) -> None:
    path = table("r.jsonl", '{"text": "a", "label": "x"}\n{"text": \n[1]\n{"text": "b"}\n{"text": 5, "label": "x"}\n')
    with pytest.raises(DataError, match=r"row 2: the line is not valid JSON .* 3 more of 5"):
        rows_of(path)
    skipped = rows_of(path, on_error="skip").skipped
    assert "row 3: the line is a JSON list" in skipped[1]
    assert "row 4, column 'label': the cell is empty" in skipped[2]
    assert "row 5, column 'text': a text is expected, not int 5" in skipped[3]


def test_tokens_and_tags(table: Any) -> None:
    good = {"tokens": ["New", "York"], "tags": ["B", "I"]}
    rows = rows_of(table("r.jsonl", json.dumps(good) + "\n"))
    assert rows.task == "token-classification"
    assert (rows[0].input, rows[0].target) == (["New", "York"], ["B", "I"])
    with pytest.raises(DataError, match="row 2: there are 2 tokens and 1 tags"):
        rows_of(table("bad.jsonl", json.dumps(good) + "\n" + json.dumps({**good, "tags": ["B"]})))
    with pytest.raises(DataError, match=r"column 'tokens': a list of tokens is expected"):
        rows_of(table("text.jsonl", json.dumps({**good, "tokens": "New York"})))


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ('["New", "York", "\'s"]', '["B", "I", "O"]'),
        ("New York 's", "B I O"),
        ("['New', 'York', \"'s\"]", "['B', 'I', 'O']"),
    ],
    ids=["json", "spaces", "python"],
)
def test_tokens_in_csv(tmp_path: Path, tokens: str, tags: str) -> None:
    with (tmp_path / "r.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["tokens", "tags"], [tokens, tags]])
    row = rows_of(tmp_path / "r.csv")[0]
    assert (row.input, row.target) == (["New", "York", "'s"], ["B", "I", "O"])


def test_tokens_as_numpy_writes_them_are_refused(table: Any) -> None:
    with pytest.raises(DataError, match="not a list in JSON"):
        rows_of(table("r.csv", "tokens,tags\n\"['a' 'b']\",\"['O' 'O']\"\n"))


def test_brackets_may_be_words(table: Any) -> None:
    assert rows_of(table("r.csv", "tokens,tags\n[ a ],O B O\n"))[0].input == ["[", "a", "]"]


def test_media_are_beside_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "img").mkdir(parents=True)
    for name in ("a.png", "ü ñ 猫.png"):
        (tmp_path / "data" / "img" / name).write_bytes(b"")
    path = tmp_path / "data" / "t.csv"
    path.write_text("image,label\nimg/a.png,x\nimg/ü ñ 猫.png,y\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    rows = rows_of("data/t.csv", tasks=("image-classification",))
    assert [row.input for row in rows] == ["data/img/a.png", "data/img/ü ñ 猫.png"]
    path.write_text(f"image,label\n{tmp_path}/data/img/a.png,x\nimg/b.png,y\n")
    with pytest.raises(DataError, match=r"row 3, column 'image': the file 'data/img/b\.png' does not exist"):
        rows_of("data/t.csv", tasks=("image-classification",))
    path.write_text("image,label\nhttps://example.org/a.png,x\n")
    with pytest.raises(DataError, match="address"):
        rows_of("data/t.csv", tasks=("image-classification",))


def test_the_task_follows_from_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    path = tmp_path / "t.csv"
    for header, task in (("audio,label", SPEECH[0]), ("audio,text", SPEECH[1])):
        path.write_text(f"{header}\na.wav,x\n")
        assert read(path, tasks=SPEECH).task == task
    path.write_text("audio,text,label\na.wav,hello,x\n")
    with pytest.raises(DataError, match=r"task='audio-classification' or task='automatic-speech-recognition'"):
        read(path, tasks=SPEECH)
    assert rows_of(path, tasks=SPEECH, task=SPEECH[1])[0].target == "hello"
    assert rows_of(path, tasks=SPEECH, columns={"label": "label"})[0].target == "x"
    path.write_text("audio,text\na.wav,hello\n")
    with pytest.raises(DataError, match="no column 'label'"):
        read(path, tasks=SPEECH, task=SPEECH[0])


def test_text_with_labels_is_not_plain_text(table: Any) -> None:
    both = ("text-generation", "text-classification")
    assert read(table("a.csv", "text,label\na,x\n"), tasks=both).task == "text-classification"
    rows = rows_of(table("b.csv", "text\na\n"), tasks=both)
    assert (rows.task, rows[0].target, rows.targets()) == ("text-generation", None, [None])


def test_the_task_must_be_the_models(table: Any) -> None:
    with pytest.raises(ConfigError, match="not for 'image-classification'"):
        rows_of(table("a.csv", "text,label\na,x\n"), task="image-classification")
    with pytest.raises(ConfigError, match="Unknown task"):
        rows_of(table("a.csv", "text,label\na,x\n"), task="text-clasification")
    with pytest.raises(ConfigError, match="on_error"):
        rows_of(table("a.csv", "text,label\na,x\n"), on_error="ignore")


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"text": ["a", "b"], "label": [0, 1], "more": [1.5, 2.5]}), path)
    rows = rows_of(path)
    assert [(row.input, row.target) for row in rows] == [("a", 0), ("b", 1)]
    assert rows[0].where == f"{path} row 1"
    assert pickle.loads(pickle.dumps(rows))[1] == rows[1]
    parquet.write_table(pa.table({"text": ["a", None], "label": [0, 1]}), path)
    with pytest.raises(DataError, match="row 2, column 'text': the cell is empty"):
        rows_of(path)
    path.write_bytes(b"PAR1 not at all")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        rows_of(path)


def test_parquet_with_media_and_names_of_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    cells = [{"bytes": b"\x89PNG", "path": None}, {"bytes": b"GIF", "path": "b.gif"}]
    datasets.Dataset.from_dict({"image": cells, "label": [1, 0]}, features=features).to_parquet(tmp_path / "t.parquet")
    rows = rows_of(tmp_path / "t.parquet", tasks=("image-classification",))
    assert [row.target for row in rows] == rows.targets() == ["dog", "cat"]
    assert [row.input for row in rows] == [b"\x89PNG", b"GIF"]


def test_rows_are_light_and_picklable(table: Any) -> None:
    rows = rows_of(table("r.csv", "text,label\n" + "a,x\n" * 3000))
    again = pickle.loads(pickle.dumps(rows))
    assert len(again) == 3000
    assert again[2999] == rows[2999]


def test_unknown_files_and_places(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("")
    with pytest.raises(DataError, match=r"no file or folder .*Did you mean 'reviews\.csv'"):
        rows_of(tmp_path / "review.csv")
    with pytest.raises(DataError, match="pattern of files"):
        rows_of(str(tmp_path / "*.jpg"))
    with pytest.raises(DataError, match="load_dataset"):
        rows_of("imdb")
    (tmp_path / "r.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"'\.xlsx' is no form of data"):
        rows_of(tmp_path / "r.xlsx")
