"""Images with boxes in the forms of COCO, YOLO and Pascal VOC, read from what annotation tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DataError
from zoo.training.data import hold_out, read
from zoo.training.data.rows import Rows

TASKS = ("object-detection",)


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 99, 199)).save(path)
    return path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def found(rows: Rows) -> dict[str, list[tuple[str, tuple[float, ...], bool]]]:
    """Label, box and crowd of each object, by the image's name."""
    out = {}
    for row in rows:
        objects = row.target
        out[Path(row.input).name] = [
            (label, tuple(round(value, 6) for value in box), bool(crowd))
            for label, box, crowd in zip(objects.labels, objects.boxes.tolist(), objects.crowd, strict=True)
        ]
    return out


# ------------------------------------------------------------------------------------------------------------ COCO


def coco(files: list[str], annotations: list[dict[str, Any]], **more: Any) -> str:
    """Ids with gaps: of images 10, 20, ...; the categories are 3 cat and 17 dog."""
    listed = [{"id": 10 * (i + 1), "file_name": name, "width": 40, "height": 30} for i, name in enumerate(files)]
    categories = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]
    return json.dumps({"images": listed, "annotations": annotations, "categories": categories, **more})


BOXES = [
    {"id": 1, "image_id": 10, "category_id": 17, "bbox": [1, 2, 10, 20.5], "iscrowd": 0, "area": 205},
    {"id": 2, "image_id": 10, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1},
    {"id": 9, "image_id": 30, "category_id": 3, "bbox": [5, 5, 5, 5]},
]
IN_COCO = {
    "a.png": [("dog", (1, 2, 11, 22.5), False), ("cat", (0, 0, 40, 30), True)],
    "b ü.png": [],
    "c.png": [("cat", (5, 5, 10, 10), False)],
}
NAMES = list(IN_COCO)


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("instances.json", "images"),
        ("instances.json", "."),
        ("_annotations.coco.json", "."),
        ("annotations/instances_default.json", "images"),
        ("annotations/mine.json", "images"),
    ],
)
def test_coco_beside_its_images(tmp_path: Path, file: str, images: str) -> None:
    for name in NAMES:
        picture(tmp_path / images / name)
    written(tmp_path / file, coco(NAMES, BOXES))
    for given in (tmp_path, tmp_path / file):
        data = read(given, tasks=TASKS)
        assert data.task == "object-detection"
        assert found(data.splits["train"]) == IN_COCO
        assert all(Path(path).is_file() for path in data.splits["train"].inputs())


@pytest.mark.parametrize("images", ["train2017", "images/train2017", "train"])
def test_cocos_own_layout_has_its_splits(tmp_path: Path, images: str) -> None:
    for name in NAMES:
        picture(tmp_path / images / name)
    picture(tmp_path / images.replace("train", "val") / "v.png")
    written(tmp_path / "annotations/instances_train2017.json", coco(NAMES, BOXES))
    written(tmp_path / "annotations/instances_val2017.json", coco(["v.png"], BOXES[:1]))
    written(tmp_path / "annotations/captions_train2017.json", '{"images": [], "annotations": []}')
    data = read(tmp_path, tasks=TASKS)
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 3, "val": 1}
    assert found(data.splits["train"]) == IN_COCO
    assert hold_out(data, 0.5, seed=0)[1] is data.splits["val"]


def test_a_coco_file_in_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        picture(tmp_path / split / "a.png")
        written(tmp_path / split / "_annotations.coco.json", coco(["a.png"], BOXES[:1]))
    data = read(tmp_path, tasks=TASKS)
    assert set(data.splits) == {"train", "val", "test"}
    assert found(data.splits["val"]) == {"a.png": IN_COCO["a.png"][:1]}
    assert len(read(tmp_path / "valid", tasks=TASKS).splits["train"]) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"bbox": [1, 2, 0, 5]}, r"annotation 7: \('dog'\) has a box without an area"),
        ({"bbox": [1, 2, 3]}, "annotation 7: each box is four numbers"),
        ({"bbox": None}, "annotation 7: each box is four numbers"),
        ({"category_id": 4}, "annotation 7 is of the category 4, which the file does not list"),
        ({"category_id": [4]}, "annotation 7 is of the category"),
        ({"image_id": 11}, "annotation 7 is of the image 11, which the file does not list"),
    ],
)
def test_a_fault_in_coco_is_named_and_may_be_left_out(tmp_path: Path, fault: dict[str, Any], message: str) -> None:
    for name in NAMES:
        picture(tmp_path / name)
    bad = {"id": 7, "image_id": 20, "category_id": 17, "bbox": [1, 1, 2, 2], **fault}
    file = written(tmp_path / "instances.json", coco(NAMES, [*BOXES, bad]))
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, tasks=TASKS)
    assert str(file) in str(caught.value)
    rows = read(tmp_path, tasks=TASKS, on_error="skip").splits["train"]
    assert len(rows) == (3 if "image_id" in fault else 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"images": []}', "not of COCO's form"),
        (coco(NAMES, [], categories=[{"id": 1}]), "no list 'categories'"),
        (coco(NAMES, [], categories=[{"id": 1, "name": "a"}] * 2), "two categories of one id"),
        (coco(NAMES, [], images=[{"id": 1, "file_name": "a"}] * 2), "two images of the id 1"),
        (coco(NAMES, [], images=[{"id": 1}]), "image 0 has no 'id' or no 'file_name'"),
    ],
)
def test_a_broken_coco_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path / "instances.json", text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, tasks=TASKS, on_error="skip")


def test_an_image_of_coco_that_is_not_there_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    written(tmp_path / "instances.json", coco(["a.png", "gone.png"], BOXES[:1]))
    with pytest.raises(DataError, match=r"gone\.png.*does not exist"):
        read(tmp_path, tasks=TASKS)
    assert len(read(tmp_path, tasks=TASKS, on_error="skip").splits["train"]) == 1


# ------------------------------------------------------------------------------------------------------------ YOLO

LINES = "1 0.5 0.5 0.5 0.4\n0 0.1 0.1 0.2 0.2\n\n"
IN_YOLO = [("dog", (0.25, 0.3, 0.75, 0.7), False), ("cat", (0, 0, 0.2, 0.2), False)]


def yolo(folder: Path, split: str, *, by_split: bool = True) -> None:
    images, labels = (f"{split}/images", f"{split}/labels") if by_split else (f"images/{split}", f"labels/{split}")
    for name in ("a", "empty", "missing"):
        picture(folder / images / f"{name}.png")
    written(folder / labels / "a.txt", LINES)
    written(folder / labels / "empty.txt", "")


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}"])
@pytest.mark.parametrize("places", ["../{0}/images", "{0}/images", "images/{0}"])
def test_yolo_with_its_yaml(tmp_path: Path, names: str, places: str) -> None:
    for split in ("train", "valid"):
        yolo(tmp_path, split, by_split="images/" not in places)
    train, val = (places.format(split) for split in ("train", "valid"))
    file = written(tmp_path / "data.yaml", f"train: {train}\nval: {val}\nnc: 2\nnames: {names}\n")
    for given in (tmp_path, file):
        data = read(given, tasks=TASKS)
        assert found(data.splits["train"]) == {"a.png": IN_YOLO, "empty.png": [], "missing.png": []}
        assert len(data.splits["val"]) == 3
        assert data.splits["train"][0].target.relative


def test_yolo_without_a_yaml(tmp_path: Path) -> None:
    yolo(tmp_path / "splits", "train", by_split=False)
    yolo(tmp_path / "splits", "val", by_split=False)
    written(tmp_path / "splits/classes.txt", "cat\ndog\n")
    assert set(read(tmp_path / "splits", tasks=TASKS).splits) == {"train", "val"}
    picture(tmp_path / "one/images/a.png")
    written(tmp_path / "one/labels/a.txt", LINES)
    assert [label for label, _, _ in found(read(tmp_path / "one", tasks=TASKS).splits["train"])["a.png"]] == ["1", "0"]
    picture(tmp_path / "flat/a.png")
    written(tmp_path / "flat/a.txt", LINES)
    written(tmp_path / "flat/classes.txt", "cat\ndog\n")
    assert found(read(tmp_path / "flat", tasks=TASKS).splits["train"]) == {"a.png": IN_YOLO}


def test_yolo_by_a_list_of_images_and_outlines_as_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    written(tmp_path / "labels/a.txt", "0 0.1 0.2 0.5 0.3 0.3 0.9\n")
    written(tmp_path / "train.txt", "./images/a.png\n")
    written(tmp_path / "data.yaml", "train: train.txt\nnames: [cat]\n")
    assert found(read(tmp_path, tasks=TASKS).splits["train"]) == {"a.png": [("cat", (0.1, 0.2, 0.5, 0.9), False)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "the class 2 is not a whole number from 0 to 1"),
        ("nan 0.5 0.5 0.1 0.1", "the class nan is not"),
        ("0.5 0.5 0.5 0.1 0.1", "the class 0.5 is not"),
        ("0 20 10 4 4", "not in shares of the image"),
        ("0 0.5 0.5 nan 0.1", "not in shares of the image"),
        ("0 0.5 0.5 0 0.1", "has no area"),
        ("0 0.5 0.5 0.1", "there are 3 numbers after the class"),
        ("0 0.5 0.5 0.1 0.1 0.9", "there are 5 numbers after the class"),
        ("cat 0.5 0.5 0.1 0.1", "is not: class, and four numbers"),
    ],
)
def test_a_fault_in_yolo_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    yolo(tmp_path, "train", by_split=False)
    written(tmp_path / "classes.txt", "cat\ndog\n")
    bad = written(tmp_path / "labels/train/missing.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, tasks=TASKS)
    assert f"{bad} line 2: " in str(caught.value)
    assert len(read(tmp_path, tasks=TASKS, on_error="skip").splits["train"]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "not readable YAML"),
        ("names: [a]", "names no folder of images"),
        ("train: gone\nnames: [a]", "there is no such folder"),
        ("train: images\nnames: [a, a]", "has a name twice"),
        ("train: images\nnames: {1: a}", "are not the numbers from 0 to 0"),
        ("train: images\nnames: [a]\nnc: 3", "nc is 3, and there are 1 names"),
        ("train: images\nnames: [a]", "none of the 1 images has a text"),
        ("train: 3\nnames: [a]", "'train' is a folder, not 3"),
        ("val: images\nvalid: images\nnames: [a]", "names the split 'val' twice"),
    ],
)
def test_a_broken_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    picture(tmp_path / "images/a.png")
    written(tmp_path / "data.yaml", text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, tasks=TASKS)


# ------------------------------------------------------------------------------------------------------ Pascal VOC


def voc(*objects: tuple[str, tuple[Any, ...], int], head: str = "") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    parts = []
    for label, box, difficult in objects:
        cells = "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, box, strict=True))
        # A part has a box of its own, which is not the object's.
        part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
        parts.append(
            f"<object><name>{label}</name><difficult>{difficult}</difficult>{part}<bndbox>{cells}</bndbox></object>"
        )
    return f"{head}<annotation><filename>other.jpg</filename>{''.join(parts)}</annotation>"


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        written(tmp_path / "Annotations" / f"{name}.xml", voc(("cat", (1, 1, 40, 30), 0), ("dog", (3, 4, 3, 4), 1)))
    written(tmp_path / "Annotations/c.xml", voc())
    expected = [("cat", (0, 0, 40, 30), False), ("dog", (2, 3, 3, 4), True)]
    assert found(read(tmp_path, tasks=TASKS).splits["train"])["a.jpg"] == expected
    main = tmp_path / "ImageSets/Main"
    written(main / "trainval.txt", "a\nb\nc\n")
    written(main / "val.txt", "b\n")
    written(main / "test.txt", "d  1\n")
    written(main / "cat_train.txt", "d -1\n")
    data = read(tmp_path, tasks=TASKS)
    assert {name: [*found(rows)] for name, rows in data.splits.items()} == {
        "train": ["a.jpg", "c.jpg"],
        "val": ["b.jpg"],
        "test": ["d.jpg"],
    }
    assert found(data.splits["train"])["c.jpg"] == []


def test_voc_of_one_folder(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    written(tmp_path / "a.xml", voc(("猫", (2, 2, 5, 5), 0)))
    assert found(read(tmp_path, tasks=TASKS).splits["train"]) == {"a.png": [("猫", (1, 1, 5, 5), False)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (voc(("cat", (5, 5, 3, 9), 0)), "has a box without an area"),
        (voc(("cat", (5, 5, "x", 9), 0)), "object 0 has no bndbox"),
        (voc(("", (5, 5, 6, 9), 0)), "object 0 has no name"),
        (voc()[:-5], "no XML that can be read"),
        ("", "no XML that can be read"),
        (voc(head='<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>'), "declares a document type"),
        (voc(head='<!DOCTYPE a SYSTEM "file:///etc/passwd">'), "declares a document type"),
    ],
)
def test_a_fault_in_voc_is_named_by_its_file(tmp_path: Path, text: str, message: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        written(tmp_path / "Annotations" / f"{name}.xml", voc(("cat", (1, 1, 4, 3), 0)))
    bad = written(tmp_path / "Annotations/b.xml", text)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, tasks=TASKS)
    assert f"{bad}: " in str(caught.value)
    assert len(read(tmp_path, tasks=TASKS, on_error="skip").splits["train"]) == 1


def test_a_listed_image_without_xml_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages/a.jpg")
    written(tmp_path / "Annotations/a.xml", voc(("cat", (1, 1, 4, 3), 0)))
    written(tmp_path / "ImageSets/Main/train.txt", "a\nz\n")
    with pytest.raises(DataError, match="'z' has no XML file"):
        read(tmp_path, tasks=TASKS)
    assert len(read(tmp_path, tasks=TASKS, on_error="skip").splits["train"]) == 1


# -------------------------------------------------------------------------------------------------- tables and others


def test_a_table_with_objects(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [
        {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": ["cat"]}},
        {"file_name": "a.png", "objects": [{"box": [1, 2, 4, 6], "label": "cat"}]},
        {"file_name": "a.png", "objects": []},
    ]
    table = written(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    data = read(table, tasks=TASKS, columns={"image": "file_name"}).splits["train"]
    assert [row.target.boxes.tolist() for row in data] == [[[1, 2, 4, 6]], [[1, 2, 4, 6]], []]
    bad = {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": []}}
    written(table, "\n".join(map(json.dumps, [*rows, bad])))
    with pytest.raises(DataError, match=r"row 4.*1 boxes and 0 labels"):
        read(table, tasks=TASKS, columns={"image": "file_name"})


def test_a_hub_dataset_of_objects_has_its_names() -> None:
    datasets = pytest.importorskip("datasets")
    objects = {
        "bbox": datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=4)),
        "category": datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"])),
    }
    image = Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8))
    data = datasets.Dataset.from_dict(
        {"image": [image], "objects": [{"bbox": [[1, 2, 3, 4]], "category": [1]}]},
        features=datasets.Features({"image": datasets.Image(), "objects": objects}),
    )
    target = read(data, tasks=TASKS).splits["train"][0].target
    assert target.labels == ("dog",)
    assert target.boxes.tolist() == [[1, 2, 4, 6]]


def test_a_folder_of_no_known_form_says_which_are(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.png")
    with pytest.raises(DataError, match="no annotations of objects that are known"):
        read(tmp_path, tasks=TASKS)
