"""Whatever the bytes of a file are: rows, or a DataError."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.training.data import read

TASKS = ("text-classification", "token-classification")
PIECES = st.sampled_from(
    [b"text", b"label", b"tokens", b"tags", b",", b"\t", b";", b" ", b"\n", b"\r\n", b'"', b"[", b"]", b"{", b"}", b":",
     b"'", b"\xef\xbb\xbf", b"\xff", b"\x00", "ü".encode(), b"a", b"1", b"null", b"O", b"-DOCSTART-", b"\\", b"PAR1"]
)  # fmt: skip
HEADS = st.sampled_from([b"", b"text,label\n", b"tokens\ttags\n", b'{"text":'])
ODD = ["a\0b", "x" * 10_000, b"reviews.csv", "", ".", object(), {1: [2]}, [{}], [{1: 2}], {"a"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.conll", "a.parquet", "a.xyz"])
@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(PIECES, max_size=40), head=HEADS)
def test_only_data_errors(name: str, pieces: list[bytes], head: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(head + b"".join(pieces))
        try:
            rows = read(path, tasks=TASKS).splits["train"]
        except DataError as error:
            message = str(error)
        else:
            assert [row.target for row in rows] == rows.targets()
            message = rows[-1].where
        assert name in message


@pytest.mark.parametrize("data", ODD)
def test_odd_objects(data: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        read(data, tasks=TASKS)
    assert len(str(caught.value)) < 800
