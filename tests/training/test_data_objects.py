"""Data in memory: frames, datasets of other libraries, lists."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.training.data import Dataset, Row, Rows, read

TEXT = ("text-classification", "token-classification")
IMAGE = ("image-classification",)
SPEECH = ("audio-classification", "automatic-speech-recognition")
PAIRS = [("good", "pos"), ("bad", "neg"), ("fine", "pos")]
DICTS = [{"text": text, "label": label, "id": i} for i, (text, label) in enumerate(PAIRS)]


def rows_of(data: Any, *, tasks: Any = TEXT, **options: Any) -> Rows:
    return read(data, tasks=tasks, **options).splits["train"]


def same(rows: Rows) -> bool:
    return [(row.input, row.target) for row in rows] == PAIRS and rows.targets() == [label for _, label in PAIRS]


# ------------------------------------------------------------------------------------------------------------ lists


def test_lists() -> None:
    assert same(rows_of(PAIRS))
    assert same(rows_of(tuple(PAIRS)))
    assert same(rows_of([list(pair) for pair in PAIRS]))
    assert same(rows_of(DICTS))
    assert same(rows_of(iter(PAIRS)))
    assert same(rows_of({"text": [t for t, _ in PAIRS], "label": [label for _, label in PAIRS]}))
    assert rows_of(PAIRS)[1].where == "list[1]"


def test_rows_and_datasets_pass_through() -> None:
    dataset = read(PAIRS, tasks=TEXT)
    assert read(dataset, tasks=TEXT) is dataset
    rows = dataset.splits["train"]
    assert read(rows, tasks=TEXT).splits["train"] is rows
    assert rows_of(list(rows))[2] == rows[2]
    with pytest.raises(DataError, match="read for text-classification"):
        read(rows, tasks=SPEECH)
    with pytest.raises(DataError, match="'train'"):
        Dataset("text-classification", {"val": rows})


def test_splits_by_name() -> None:
    dataset = read({"train": PAIRS, "dev": DICTS[:1], "test": PAIRS[:2]}, tasks=TEXT)
    assert {name: len(rows) for name, rows in dataset.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert dataset.splits["val"][0].where == "dict['val'][0]"
    with pytest.raises(DataError, match="neither splits"):
        read({"train": PAIRS, "holdout": PAIRS[:1]}, tasks=TEXT)
    taken = read({"train": dataset.splits["train"].select([2]), "val": PAIRS}, tasks=TEXT)
    assert [row.input for row in taken.splits["train"]] == ["fine"]


def test_types_of_pairs_say_the_task() -> None:
    tokens = [(["New", "York"], ["B", "I"]), (["a"], ("O",))]
    assert rows_of(tokens).task == "token-classification"
    assert rows_of(tokens)[1].target == ["O"]
    assert rows_of([("a", 0), ("b", 1)]).targets() == [0, 1]
    assert rows_of([(np.zeros(8), 1)], tasks=SPEECH).task == "audio-classification"
    both = ("text-generation", "text-classification")
    assert rows_of(PAIRS, tasks=both).task == "text-classification"
    assert rows_of(["once", "upon"], tasks=both).task == "text-generation"
    with pytest.raises(DataError, match=r"task='audio-classification' or task='automatic-speech-recognition'"):
        rows_of([(np.zeros(8), "hello")], tasks=SPEECH)
    assert rows_of([(np.zeros(8), "hello")], tasks=SPEECH, task=SPEECH[1])[0].target == "hello"


@pytest.mark.parametrize(
    ("data", "task", "message"),
    [
        ([("text", "label")], "token-classification", r"\(str, str\), which serve none"),
        ([(["a"], ["B"])], "text-classification", r"\(list of str, list of str\)"),
        ([(np.zeros(8), 3)], "automatic-speech-recognition", r"\(ndarray, int\)"),
    ],
)
def test_pairs_that_cannot_serve_the_task(data: Any, task: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(data, tasks=(*TEXT, *SPEECH), task=task)


@pytest.mark.parametrize(
    ("data", "tasks", "message"),
    [
        (["a.jpg", "b.jpg"], IMAGE, r"inputs alone, such as 'a\.jpg', and no targets"),
        ([Path("a.wav")], SPEECH, "no targets"),
        (["a.txt"], ("text-generation",), r"files alone, such as 'a\.txt'"),
        ([], TEXT, "no rows"),
        ({}, TEXT, "neither splits"),
        ([1, 2], TEXT, r"list\[0\]: an \(input, target\) pair is expected, not int '1'"),
        ([("a", "b", "c")], TEXT, "a tuple of 3"),
        (None, TEXT, "NoneType is no form of data"),
        (5, TEXT, "int is no form of data"),
        ((["a", "b"], [0, 1]), TEXT, r"list\(zip\(inputs, targets\)\)"),
        (np.zeros((3, 2)), IMAGE, "An array has no labels"),
        ([{"sentence": "a", "sentiment": 1}], TEXT, r'columns=\{"text": "sentence", "label": "sentiment"\}'),
    ],
)
def test_what_is_no_data(data: Any, tasks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(data, tasks=tasks)


def test_faulty_rows_are_named() -> None:
    bad: list[Any] = [*PAIRS, ("x", None), ("y",), (None, "pos"), (5, "pos"), ("z", 0.5)]
    with pytest.raises(DataError, match=r"list\[3\], column 'target': the cell is empty\. 4 more .*: 4, 5, 6, 7\.$"):
        rows_of(bad)
    rows = rows_of(bad, on_error="skip")
    assert same(rows)
    assert len(rows.skipped) == 5
    with pytest.raises(DataError, match=r"list\[1\], column 'label': the cell is empty"):
        rows_of([DICTS[0], {"text": "a"}])
    with pytest.raises(DataError, match=r"list\[1\]: a dict is expected"):
        rows_of([DICTS[0], ("a", "b")])
    with pytest.raises(DataError, match=r"list\[1\]: there are 1 tokens and 2 tags"):
        rows_of([(["a"], ["O"]), (["a"], ["O", "O"])])


def test_a_list_of_many_bad_rows_stays_readable() -> None:
    with pytest.raises(DataError) as caught:
        rows_of([("x", None if i else "a") for i in range(1000)])
    assert len(str(caught.value)) < 200


def test_images_of_all_kinds_stay_what_they_are(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a.png").write_bytes(b"")
    image, array = Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), dtype=np.uint8)
    rows = rows_of([(tmp_path / "a.png", 0), (image, 1), (array, 0), (b"bytes", 1)], tasks=IMAGE)
    assert rows[0].input == str(tmp_path / "a.png")
    assert rows[1].input is image
    assert rows[2].input is array
    with pytest.raises(DataError, match=r"list\[1\], column 'input': the file '.*b\.png' does not exist"):
        rows_of([(image, 1), (tmp_path / "b.png", 0)], tasks=IMAGE)


def test_selecting() -> None:
    rows = rows_of([(str(i), i % 2) for i in range(10)])
    part = rows.select([7, 1])[::-1]
    assert [row.input for row in part] == ["1", "7"]
    assert part.targets() == [1, 1]
    assert list(rows[2:4].inputs()) == ["2", "3"]
    assert rows[-1].input == rows.inputs()[9] == "9"
    assert rows[5:5].targets() == []
    assert part.where(0) == "list[1]"
    assert len(rows[1:].inputs()) == 9
    for call in (lambda: rows[10], lambda: part[2], lambda: part.select([2]), lambda: rows.select([-1])):
        with pytest.raises(IndexError):
            call()


# ----------------------------------------------------------------------------------------------------------- frames


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(DICTS, index=[5, 6, 7])
    rows = rows_of(frame)
    assert same(rows)
    assert rows[1].where == "DataFrame.iloc[1]"
    assert same(rows_of(frame.astype({"label": "category"})))
    assert rows_of(pd.DataFrame({"text": ["a"], "label": [1]}))[0].target == 1
    for nothing in (None, np.nan, pd.NA):
        bad = pd.DataFrame({"text": ["a", nothing], "label": ["x", "y"]})
        with pytest.raises(DataError, match=r"DataFrame\.iloc\[1\], column 'text': the cell is empty"):
            rows_of(bad)
    frame.loc[5, "text"] = "changed"
    assert same(rows)


def test_polars() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(DICTS)
    assert same(rows_of(frame))
    assert same(rows_of(frame.lazy()))
    assert rows_of(frame)[2].where == "DataFrame[2]"
    words = pl.DataFrame({"tokens": [["a", "b"]], "tags": [["O", "B"]]})
    assert rows_of(words)[0] == Row(["a", "b"], ["O", "B"], "DataFrame[0]")
    with pytest.raises(DataError, match=r"DataFrame\[1\], column 'label'"):
        rows_of(pl.DataFrame({"text": ["a", "b"], "label": ["x", None]}))


def test_arrow_table() -> None:
    pa = pytest.importorskip("pyarrow")
    assert same(rows_of(pa.Table.from_pylist(DICTS)))


def test_nothing_is_imported_to_recognise_it() -> None:
    code = (
        "import sys\n"
        "from zoo.training.data import read\n"
        "read([('a', 'x'), ('b', 'y')], tasks=('text-classification',))\n"
        "heavy = {'torch', 'pandas', 'polars', 'datasets', 'pyarrow', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# ----------------------------------------------------------------------------------------- Hugging Face and torch


def test_hub_dataset() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(DICTS)
    rows = rows_of(data)
    assert same(rows)
    assert rows[1].where == "Dataset[1]"
    assert pickle.loads(pickle.dumps(rows))[1] == rows[1]
    assert same(rows_of(data.to_iterable_dataset()))
    with pytest.raises(DataError, match=r"IterableDataset\[1\], column 'label'"):
        rows_of(datasets.Dataset.from_list([DICTS[0], {**DICTS[1], "label": None}]).to_iterable_dataset())


def test_hub_labels_have_names() -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(text=datasets.Value("string"), label=names)
    data = datasets.Dataset.from_dict({"text": ["good", "bad", "fine"], "label": [1, 0, 1]}, features=features)
    assert same(rows_of(data))
    assert same(rows_of(data.to_iterable_dataset()))
    assert same(rows_of(data.with_format("numpy")))
    unlabelled = datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features)
    with pytest.raises(DataError, match=r"the label is missing \(-1"):
        rows_of(unlabelled)


def test_hub_tags_have_names() -> None:
    datasets = pytest.importorskip("datasets")
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-LOC"]))
    features = datasets.Features(tokens=datasets.List(datasets.Value("string")), ner_tags=tags)
    data = datasets.Dataset.from_dict({"tokens": [["in", "Oslo"]], "ner_tags": [[0, 1]]}, features=features)
    with pytest.raises(DataError, match=r'columns=\{"tags": "ner_tags"\}'):
        rows_of(data)
    rows = rows_of(data, columns={"tags": "ner_tags"})
    assert rows[0] == Row(["in", "Oslo"], ["O", "B-LOC"], "Dataset[0]")


def test_hub_dict_of_splits() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(DICTS)
    given = datasets.DatasetDict(train=data, validation=data, unsupervised=data)
    assert list(read(given, tasks=TEXT).splits) == ["train", "val"]
    assert list(read(datasets.DatasetDict(test=data), tasks=TEXT).splits) == ["train"]
    streams = datasets.IterableDatasetDict({"train": data.to_iterable_dataset(), "test": data.to_iterable_dataset()})
    assert list(read(streams, tasks=TEXT).splits) == ["train", "test"]
    with pytest.raises(DataError, match=r"splits a, b.*data\[name\]"):
        read(datasets.DatasetDict(a=data, b=data), tasks=TEXT)


def test_hub_media_are_not_decoded(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    data = datasets.Dataset.from_dict({"img": [str(tmp_path / "a.png")], "label": [1]})
    data = data.cast_column("img", datasets.Image())
    for given in (data, data.to_iterable_dataset()):
        with pytest.raises(DataError, match=r'columns=\{"image": "img"\}'):
            rows_of(given, tasks=IMAGE)
        row = rows_of(given, tasks=IMAGE, columns={"image": "img"})[0]
        assert row.input == str(tmp_path / "a.png")
    # Reading targets of a sound must not need a decoder either.
    sound = datasets.Dataset.from_dict({"audio": [{"bytes": b"RIFF", "path": "a.wav"}], "text": ["hi"]})
    sound = sound.cast_column("audio", datasets.Audio())
    for given in (sound, sound.to_iterable_dataset()):
        rows = rows_of(given, tasks=SPEECH)
        assert (rows.task, rows[0].input, rows.targets()) == (SPEECH[1], b"RIFF", ["hi"])


def test_hub_dataset_with_a_transform() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(DICTS)
    data.set_transform(lambda batch: {"text": [text.upper() for text in batch["text"]], "label": batch["label"]})
    assert [row.input for row in rows_of(data)] == ["GOOD", "BAD", "FINE"]


class _Map:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch

        self.seen.append(index)
        if index == 3:
            raise OSError("truncated")
        return torch.zeros(3, 2, 2), index % 2


def test_torch_map_dataset_is_lazy_and_names_its_bad_row() -> None:
    torch = pytest.importorskip("torch")

    class Data(_Map, torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        pass

    data = Data()
    rows = rows_of(data, tasks=IMAGE)
    assert data.seen == [0]
    assert isinstance(rows[1].input, np.ndarray)
    assert rows[1].target == 1
    with pytest.raises(DataError, match=r"Data\[3\]: OSError: truncated"):
        rows[3]
    good = rows[:3]
    seen = len(data.seen)
    assert good.targets() == [0, 1, 0]
    assert len(data.seen) == seen + 2
    assert good.targets() == [0, 1, 0]
    assert len(data.seen) == seen + 2
    rows = rows_of(data, tasks=IMAGE, on_error="skip")
    assert len(rows) == 3
    assert rows.skipped == ("Data[3]: OSError: truncated",)


def test_torch_dataset_with_named_classes() -> None:
    torch = pytest.importorskip("torch")

    class Data(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        classes = ("cat", "dog")
        class_to_idx = {"cat": 0, "dog": 1}  # noqa: RUF012

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[bytes, Any]:
            return b"", torch.tensor(index % 2)

    part = torch.utils.data.Subset(Data(), [1, 2])
    assert rows_of(part, tasks=IMAGE).targets() == ["dog", "cat"]


def test_torch_dataset_of_dicts_and_streams() -> None:
    torch = pytest.importorskip("torch")

    class Data(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict[str, Any]:
            return DICTS[index]

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[tuple[str, str]]:
            return iter(PAIRS)

    assert same(rows_of(Data()))
    assert same(rows_of(Stream()))
    with pytest.raises(DataError, match=r"loader\.dataset"):
        rows_of(torch.utils.data.DataLoader(Data()))


def test_a_first_row_that_is_bad_does_not_hide_the_task() -> None:
    with pytest.raises(DataError, match=r"list\[0\], column 'target': the cell is empty"):
        rows_of([("x", None), *PAIRS])
    assert same(rows_of([("x", None), ("y",), *PAIRS], on_error="skip"))


def test_hub_dataset_after_select_and_shuffle() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(DICTS[::-1]).select([2, 1, 0])
    rows = rows_of(data)
    assert same(rows)
    assert rows.select([2, 0]).targets() == ["pos", "pos"]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_test_split_without_labels_does_not_hinder_training(on_error: Any) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"]))
    train = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": [1, 0]}, features=features)
    hidden = datasets.Dataset.from_dict({"text": ["one", "two"], "label": [-1, -1]}, features=features)
    dataset = read(datasets.DatasetDict(train=train, test=hidden), tasks=TEXT, on_error=on_error)
    assert dataset.splits["train"].targets() == ["pos", "neg"]
    with pytest.raises(DataError, match=r"DatasetDict\['test'\]\[0\], column 'label': the label is missing"):
        dataset.splits["test"][0]
    with pytest.raises(DataError, match=r"DatasetDict\['val'\]\[0\]"):
        read(datasets.DatasetDict(train=train, val=hidden), tasks=TEXT)
