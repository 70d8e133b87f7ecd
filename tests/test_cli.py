"""The command `zoo`: what it prints, how it fails, and every command over real (tiny) models."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import zoo
from tests.tiny import tiny
from zoo import tasks as zoo_tasks
from zoo.cli import app, checking, finding
from zoo.cli.fields import parsed
from zoo.cli.shared import names, pairs, plain
from zoo.doctor import Facts, Finding, Level
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "list",
    "info",
    "schema",
    "pull",
    "predict",
    "batch",
    "finetune",
    "evaluate",
    "export",
    "verify",
    "index",
    "search",
    "doctor",
]


def zoo_command(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def ok(*arguments: object, stdin: str | None = None) -> str:
    result = zoo_command(*arguments, stdin=stdin)
    assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stdout


def fails(*arguments: object, stdin: str | None = None) -> str:
    """The message of a command that exits with 1: on stderr, readable, no traceback."""
    result = zoo_command(*arguments, stdin=stdin)
    assert result.exit_code == 1, f"{result.exit_code}: {result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("zoo: ")
    return result.stderr


def process(*arguments: object, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own. before: Python to run first."""
    code = f"{before}\nfrom zoo.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes: dark cats and bright dogs; and rows of text with columns of other names."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label, low in (("cat", 0), ("dog", 128)):
        (root / "pets" / label).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(low, low + 128, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "pets" / label / f"{index}.png")
    rows = "".join(f"a good thing {i},yes\na bad thing {i},no\n" for i in range(6))
    (root / "reviews.csv").write_text(f"review,stars\n{rows}")
    return root


def saved(target: Path, name: str, **options: Any) -> Path:
    model = zoo.load(tiny(zoo.info(name)), weights=None, device="cpu", seed=0, **options)
    return model.save(target)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "pets", "resnet18", labels=["cat", "dog"])


@pytest.fixture(scope="module")
def pets_bundle(pets: Path) -> Path:
    target = pets.with_name("pets.bundle")
    zoo.load(pets, device="cpu").export(target)
    return target


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "reviews"
    return saved(target, "bert-base-cased", task="text-classification", labels=["no", "yes"])


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "writer", "gpt2")


# The frame.


def test_help_of_every_command_tells_of_json() -> None:
    assert all(name in ok("--help") for name in COMMANDS)
    assert "command with --resume goes on from the newest." in ok("finetune", "--help")
    for name in COMMANDS:
        assert name == "schema" or "--json" in ok(name, "--help"), name


def test_no_command_shows_the_help() -> None:
    assert "Usage: zoo" in zoo_command().output


def test_version() -> None:
    assert ok("--version") == f"polyzoo {zoo.__version__}\n"


def test_a_wrong_option_is_a_usage_error() -> None:
    result = zoo_command("list", "--modallity", "text")
    assert result.exit_code == 2
    assert "--modality" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (zoo.ConfigError("epochs is 0"), 1, "epochs is 0"),
        (zoo.TrainingInterrupted("the checkpoint is written"), 130, "the checkpoint is written"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (OSError(28, "No space left on device", "out.json"), 1, "No space left on device: 'out.json'"),
        (ImportError("libcudart.so.13 not found"), 1, "`zoo doctor`"),
        (MemoryError(), 1, "--batch-size"),
        (RuntimeError("a shape is wrong"), 1, "This is a defect of polyzoo"),
    ],
)
def test_every_error_is_one_message(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def broken(*_: object, **__: object) -> list[str]:
        raise error

    monkeypatch.delenv("ZOO_TRACEBACK", raising=False)
    monkeypatch.setattr(finding.zoo, "list_models", broken)
    result = zoo_command("list")
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_traceback_of_a_defect_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> list[str]:
        raise RuntimeError("a shape is wrong")

    monkeypatch.setenv("ZOO_TRACEBACK", "1")
    monkeypatch.setattr(finding.zoo, "list_models", broken)
    assert isinstance(zoo_command("list").exception, RuntimeError)


def test_a_closed_pipe_is_quiet() -> None:
    code = "from zoo.cli import main\nmain()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "schema"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert "Error" not in child.stderr.read()
    child.stderr.close()
    child.wait(timeout=60)


# What there is.


def test_list_is_the_catalogue() -> None:
    assert [row["name"] for row in json.loads(ok("list", "--json"))] == zoo.list_models()
    rows = json.loads(ok("list", "resnet*", "--task", "image-classification", "--json"))
    assert [row["name"] for row in rows] == zoo.list_models("resnet*", task="image-classification")
    assert rows[0]["modality"] == "vision"


def test_list_fits_a_terminal() -> None:
    lines = ok("list").splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in zoo.list_models())


def test_list_of_nothing_and_of_a_wrong_task() -> None:
    assert "No model" in ok("list", "nothing-like-it*")
    assert json.loads(ok("list", "nothing-like-it*", "--json")) == []
    assert "image-classification" in fails("list", "--task", "image-clasification")


def test_list_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'transformers', 'onnxruntime'}"
    before = f"import atexit, sys\natexit.register(lambda: print('LOADED', *({heavy} & set(sys.modules))))"
    assert process("list", "--json", before=before).stdout.splitlines()[-1] == "LOADED"


def test_info_prints_the_card() -> None:
    assert ok("info", "resnet50").startswith("resnet50 (vision)")
    assert json.loads(ok("info", "ResNet50", "--json"))["name"] == "resnet50"
    assert "Did you mean 'resnet50'?" in fails("info", "resnet5")


def test_info_of_folders(pets: Path, pets_bundle: Path) -> None:
    assert "a saved model, for image-classification" in ok("info", pets)
    assert "an exported bundle" in ok("info", pets_bundle)
    assert json.loads(ok("info", pets_bundle, "--json"))["parity"]["passed"] is True


def test_schema() -> None:
    assert json.loads(ok("schema"))["properties"]["backend"]
    assert set(json.loads(ok("schema", "finetune"))["properties"]) == set(TrainConfig.model_fields)


def test_pull_offline_says_what_can_be_done(tmp_path: Path) -> None:
    done = process("pull", "resnet50", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "HF_ENDPOINT" in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr
    assert "Traceback" not in done.stderr


# Predicting.


def test_predict_flags_cover_the_options_of_every_task() -> None:
    options = {field.name for task in TASKS for field in dataclasses.fields(zoo_tasks.get(task).options)}
    from zoo.cli.predicting import predict

    # Token ids are for who writes code.
    ids = {"forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens"}
    assert options - ids <= set(inspect.signature(predict).parameters)


def test_predict_answers_as_the_model_does(pets: Path, folder: Path) -> None:
    files = [str(folder / "pets" / "cat" / "0.png"), str(folder / "pets" / "dog" / "3.png")]
    expected = zoo.load(pets, device="cpu").predict(files, top_k=1)
    lines = [json.loads(line) for line in ok("predict", pets, *files, "--top-k", 1, "--json").splitlines()]
    assert [line["input"] for line in lines] == files
    assert [line["result"]["label"] for line in lines] == [result.label for result in expected]
    assert [line["result"]["score"] for line in lines] == pytest.approx([result.score for result in expected], abs=1e-6)
    assert all(len(line["result"]["top"]) == 1 for line in lines)


def test_predict_for_people(pets: Path, folder: Path) -> None:
    head, first, _ = ok("predict", pets, folder / "pets" / "cat" / "0.png").splitlines()
    assert head.startswith("/") or head.endswith("...")
    assert first.split()[1] in ("cat", "dog")


def test_predict_reads_lines_of_standard_input(reviews: Path) -> None:
    lines = ok("predict", reviews, "first", "-", "--json", stdin="good\n\nbad, and Zürich\n").splitlines()
    assert [json.loads(line)["input"] for line in lines] == ["first", "good", "", "bad, and Zürich"]


def test_predict_of_paths_from_standard_input(pets: Path, folder: Path) -> None:
    files = sorted(map(str, (folder / "pets").rglob("*.png")))
    lines = ok("predict", pets, "-", "--json", "--batch-size", 5, stdin="\n".join(files)).splitlines()
    assert [json.loads(line)["input"] for line in lines] == files


def test_predict_with_one_bad_input(pets: Path, folder: Path) -> None:
    good = folder / "pets" / "cat" / "0.png"
    assert "no file at that path" in fails("predict", pets, good, "nowhere.png")
    result = zoo_command("predict", pets, "nowhere.png", good, "--on-error", "return", "--json")
    assert result.exit_code == 1
    bad, fine = map(json.loads, result.stdout.splitlines())
    assert bad["error"]["error"] == "InputError"
    assert fine["result"]["label"] in ("cat", "dog")
    assert "1 input could not be used" in result.stderr


def test_predict_generates(writer: Path) -> None:
    expected = zoo.load(writer, device="cpu").predict("once", max_new_tokens=4)
    line = json.loads(ok("predict", writer, "once", "--max-new-tokens", 4, "--no-do-sample", "--json"))
    assert line["result"]["tokens"] == list(expected.tokens)
    drawn = ("--do-sample", "--seed", 7, "--temperature", 2.0, "--top-p", 0.9, "--repetition-penalty", 1.1)
    first, again = (ok("predict", writer, "once", "--max-new-tokens", 6, *drawn) for _ in range(2))
    assert first == again


def test_predict_streams(writer: Path) -> None:
    expected = zoo.load(writer, device="cpu").predict(["once", "upon"], max_new_tokens=4)
    printed = ok("predict", writer, "once", "upon", "--max-new-tokens", 4, "--stream")
    assert printed == "".join(f"{one.prompt}\n  {one.text}\n" for one in expected)
    assert "leave --json" in fails("predict", writer, "once", "--stream", "--json")


def test_predict_gives_vectors(reviews: Path) -> None:
    command = ("predict", reviews, "good", "--task", "feature-extraction")
    vector = json.loads(ok(*command, "--normalize", "--json"))["result"]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert f"float32 [{len(vector)}]" in ok(*command)


def test_predict_answers_questions(tmp_path: Path) -> None:
    model = saved(tmp_path / "reader", "bert-base-cased", task="question-answering")
    context = "Ada Lovelace wrote the first program in 1843."
    asked = [{"question": question, "context": context} for question in ("who?", "wann? \u4f55\u65f6")]
    expected = [answer.text for answer in zoo.load(model, device="cpu").predict(asked)]
    options = ("--question", asked[0]["question"], "--question", asked[1]["question"], "--context", context)
    lines = [json.loads(line) for line in ok("predict", model, *options, "--json").splitlines()]
    assert [line["result"]["text"] for line in lines] == expected
    assert json.loads(lines[1]["input"]) == asked[1]
    (tmp_path / "asked.jsonl").write_text(
        "\n".join(json.dumps({**row, "answers": [], "id": 7}) for row in asked) + "\n\n", encoding="utf-8"
    )
    for given in ((tmp_path / "asked.jsonl",), map(json.dumps, asked)):
        lines = [json.loads(line) for line in ok("predict", model, *given, "--json").splitlines()]
        assert [line["result"]["text"] for line in lines] == expected
    none = ("--handle-impossible-answer", "--null-score-diff-threshold", "-1000", "--top-k", 2)
    shown = ok("predict", model, *options[:2], *options[4:], *none).splitlines()
    assert shown[1].endswith("no answer")
    assert len(shown) == 3
    assert "go together" in fails("predict", model, "--question", "who?")
    assert "not a str" in fails("predict", model, "who?")
    assert "Nothing to predict" in fails("predict", model)


def test_predict_of_labels_that_were_never_seen(tmp_path: Path) -> None:
    labels = ["contradiction", "neutral", "entailment"]
    model = saved(tmp_path / "nli", "bert-base-cased", task="zero-shot-classification", labels=labels)
    asked = ("--candidate-labels", "sport, politics", "--hypothesis-template", "It is {}.", "--multi-label")
    line = json.loads(ok("predict", model, "a draw", *asked, "--threshold", 0, "--json"))
    expected = zoo.load(model, device="cpu").predict(
        "a draw", candidate_labels=["sport", "politics"], hypothesis_template="It is {}.", multi_label=True, threshold=0
    )
    assert line["result"]["labels"] == list(expected.labels)
    assert len(ok("predict", model, "a draw", *asked[:2]).splitlines()) == 3
    assert "candidate_labels" in fails("predict", model, "a draw")


def test_predict_of_pairs_of_texts(reviews: Path) -> None:
    pair = {"text": "good", "text_pair": "bad"}
    line = json.loads(ok("predict", reviews, json.dumps({**pair, "label": "no"}), "--json"))
    assert line["result"]["score"] == pytest.approx(zoo.load(reviews, device="cpu").predict(pair).score, abs=1e-6)
    assert json.loads(ok("predict", reviews, "{no json}", "--json"))["result"]["label"] in ("no", "yes")


def test_predict_draws_what_it_found(pets: Path, folder: Path, tmp_path: Path) -> None:
    streets = saved(tmp_path / "streets", "segformer-b0-cityscapes")
    files = [folder / "pets" / "cat" / "0.png", folder / "pets" / "dog" / "0.png"]
    assert "%" in ok("predict", streets, files[0], "--output", tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size[0] > 40
    line = json.loads(ok("predict", streets, *files, "-o", tmp_path / "all", "--json").splitlines()[0])
    assert line["result"]["mask"]["encoding"] == "png"
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["0-2.png", "0.png"]
    assert "Name a picture" in fails("predict", streets, files[0], "-o", tmp_path / "one.what")
    assert "a Classification has none" in fails("predict", pets, files[0], "-o", tmp_path / "two.png")


def test_predict_draws_the_boxes_it_found(folder: Path, tmp_path: Path) -> None:
    detector = saved(tmp_path / "detector", "rtdetr-r18vd")
    file = folder / "pets" / "cat" / "0.png"
    shown = ok("predict", detector, file, "--threshold", 0, "--top-k", 3, "--nms", 1, "-o", tmp_path / "one.png")
    assert len(shown.splitlines()) == 4
    assert Image.open(tmp_path / "one.png").size == Image.open(file).size
    assert "nothing found" in ok("predict", detector, file, "--threshold", 1, "-o", tmp_path / "two.png")
    assert (tmp_path / "two.png").is_file()


def test_predict_refuses_an_option_of_another_task(pets: Path, folder: Path) -> None:
    assert "max_new_tokens" in fails("predict", pets, folder / "pets" / "cat" / "0.png", "--max-new-tokens", 3)
    assert "--batch-size is 'many'" in fails("predict", pets, "x.png", "--batch-size", "many")


def test_a_bundle_answers_where_torch_can_not_be_imported(pets: Path, pets_bundle: Path, folder: Path) -> None:
    block = "import sys\nfor name in ('torch', 'transformers', 'timm', 'torchvision'): sys.modules[name] = None"
    files = sorted(map(str, (folder / "pets").rglob("*.png")))
    done = process("predict", pets_bundle, *files, "--json", before=block)
    assert done.returncode == 0, done.stderr
    labels = [json.loads(line)["result"]["label"] for line in done.stdout.splitlines()]
    assert labels == [result.label for result in zoo.load(pets, device="cpu").predict(files)]


def test_a_bundle_has_nothing_left_to_choose(pets_bundle: Path) -> None:
    message = fails("predict", pets_bundle, "x.png", "--labels", "a,b", "--weights", "none", "--compile")
    assert "--labels, --compile, --weights" in message


def test_what_torch_answers_by_is_chosen(pets: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[zoo.Model] = []
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda *given, **named: made.append(load(*given, **named)) or made[-1])  # type: ignore[func-returns-value]
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    picture = next(iter(sorted(folder.rglob("*.png"))))
    ok("predict", pets, picture, "--precision", "bf16", "--device", "cpu")
    assert (made[-1].precision, made[-1].compile) == ("bf16", False)
    assert "needs a C++ compiler" in fails("predict", pets, picture, "--compile", "--device", "cpu")


def test_random_weights_touch_no_network() -> None:
    model = json.loads(ok("predict", "all-minilm-l6-v2", "hello", "--weights", "none", "--device", "cpu", "--json"))
    assert len(model["result"]) == 384


# Learning.


@pytest.mark.parametrize("name", sorted(TrainConfig.model_fields))
def test_finetune_has_a_flag_for_every_field(name: str) -> None:
    from zoo.cli.learning import finetune

    assert f"--{name.replace('_', '-')}" in {
        flag for item in inspect.signature(finetune).parameters.values() for flag in _flags(item)
    }


def _flags(item: inspect.Parameter) -> list[str]:
    found = [str(text) for meta in getattr(item.annotation, "__metadata__", ()) for text in meta.param_decls or ()]
    default = [str(meta.default) for meta in getattr(item.annotation, "__metadata__", ())]
    return [flag for text in [*found, *default] for flag in text.split("/")]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"epochs": "5"}, 5),
        ({"learning_rate": "3e-5"}, 3e-5),
        ({"batch_size": "auto"}, "auto"),
        ({"batch_size": "16"}, 16),
        ({"max_steps": "none"}, None),
        ({"augment": "none"}, "none"),
        ({"resume": True, "output_dir": "run"}, True),
        ({"output_dir": "2026"}, Path("2026")),
        ({"experiment": "7"}, "7"),
        ({"class_weights": '{"no": 2}'}, {"no": 2.0}),
        ({"class_weights": "balanced"}, "balanced"),
        ({"log": "tensorboard", "output_dir": "run"}, ("tensorboard",)),
        ({"epochs": None, "method": "head"}, "head"),
    ],
)
def test_texts_of_options_are_what_the_configuration_takes(given: dict[str, Any], value: object) -> None:
    config = TrainConfig.parse(parsed(TrainConfig, given))
    name = next(name for name, text in given.items() if text is not None)
    assert getattr(config, name) == value


def test_from_data_to_a_bundle(pets: Path, folder: Path, tmp_path: Path) -> None:
    tuned, target = tmp_path / "tuned", tmp_path / "tuned.bundle"
    options = ("--epochs", 2, "--val", 0.34, "--learning-rate", "1e-2", "--batch-size", 4, "--augment", "none")
    found = json.loads(ok("finetune", pets, folder / "pets", "--output", tuned, *options, "--device", "cpu", "--json"))
    assert found["labels"] == ["cat", "dog"]
    assert len(found["history"]) == 2
    assert (tmp_path / "tuned.run").is_dir()

    report = json.loads(ok("evaluate", tuned, folder / "pets", "--html", tmp_path / "report.html", "--json"))
    assert report["rows"] == 12
    assert 0 <= report["metrics"]["accuracy"] <= 1
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8").lower()
    assert "accuracy" in ok("evaluate", tuned, folder / "pets")

    sample = folder / "pets" / "dog" / "1.png"
    made = json.loads(ok("export", tuned, target, "--samples", sample, "--json"))
    assert made["parity"]["passed"] is True
    assert made["parity"]["source"] == "user"
    assert "is intact" in ok("verify", target)
    assert set(json.loads(ok("verify", target, "--json"))["files"]) == {"model.onnx", "report.html", "zoo.yaml"}

    graph = target / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    assert "model.onnx" in fails("verify", target)
    assert "model.onnx" in fails("predict", target, sample)


def test_finetune_resumes_with_the_same_command(reviews: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "tuned"
    columns = ("--columns", "text=review", "--columns", "label=stars")
    command = ("finetune", reviews, folder / "reviews.csv", "-o", output, *columns, "--device", "cpu", "--no-progress")
    assert "text-classification, 2 labels, 1 epoch, accuracy" in ok(*command, "--epochs", 1)
    again = json.loads(ok(*command, "--epochs", 1, "--resume", "--json"))
    assert [record["epoch"] for record in again["history"]] == [1]


def test_finetune_checks_before_it_works(reviews: Path, folder: Path, tmp_path: Path) -> None:
    command = ("finetune", reviews, folder / "reviews.csv", "--output")
    assert "epochs" in fails(*command, tmp_path / "new", "--epochs", 0)
    assert "cosine" in fails(*command, tmp_path / "new", "--scheduler", "cosin")
    assert "did not write" in fails(*command, folder)
    assert "--columns takes NAME=VALUE" in fails(*command, tmp_path / "new", "--columns", "review")
    assert "nowhere.csv" in fails("finetune", reviews, tmp_path / "nowhere.csv", "-o", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_export_fails_when_it_does_not_answer_alike(pets: Path, tmp_path: Path) -> None:
    assert "answers differently" in fails("export", pets, tmp_path / "x.bundle", "--tolerance", 0)
    assert "int9" in fails("export", pets, tmp_path / "x.bundle", "--precision", "int9")
    assert not (tmp_path / "x.bundle").exists()


# The doctor.


def _sick(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    facts = Facts("3.11.9", "linux-x86_64", {f"package-number-{i}": "1.2.3" for i in range(20)})
    monkeypatch.setattr(checking.zoo_doctor, "collect", lambda imports: facts)
    monkeypatch.setattr(checking.zoo_doctor, "diagnose", lambda facts: list(findings))


def test_doctor_prints_what_why_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    _sick(monkeypatch, Finding(Level.error, "A thing is wrong, " * 8, "It matters, " * 12, "pip install a-thing"))
    result = zoo_command("doctor")
    assert result.exit_code == 1
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "  mend: pip install a-thing" in result.stdout.splitlines()
    assert "1 error, 0 warnings." in result.stdout


def test_doctor_is_content_with_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    _sick(monkeypatch, Finding(Level.warning, "A thing is odd."), Finding(Level.note, "By the way."))
    assert "0 errors, 1 warning." in ok("doctor")
    found = json.loads(ok("doctor", "--json"))
    assert found["ok"] is True
    assert [item["level"] for item in found["findings"]] == ["warning", "note"]


# The small functions.


def test_pairs() -> None:
    assert pairs(None, "--columns") is None
    assert pairs(["text=a=b", "label=c"], "--columns") == {"text": "a=b", "label": "c"}
    with pytest.raises(zoo.ConfigError, match="NAME=VALUE"):
        pairs(["text="], "--columns")


def test_names() -> None:
    assert names(None, "--labels") is None
    assert names("O, B-PER,I-PER", "--labels") == ["O", "B-PER", "I-PER"]
    assert names('["a, b", 1]', "--labels") == ["a, b", "1"]
    with pytest.raises(zoo.ConfigError, match="--labels"):
        names("[a", "--labels")


def test_plain_is_json() -> None:
    value = {"a": np.float32(1), "b": (float("nan"), Path("x")), 3: np.arange(2)}
    assert plain(value) == {"a": 1.0, "b": [None, "x"], "3": [0, 1]}
