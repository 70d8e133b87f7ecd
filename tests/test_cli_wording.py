"""What a message says of a call's options, as the command takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo.cli.app import app
from zoo.cli.bundles import export
from zoo.cli.learning import evaluate, finetune
from zoo.cli.predicting import predict
from zoo.cli.wording import as_typed


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ('Use optimizer="sgd", a smaller model.', "Use --optimizer sgd, a smaller model."),
        ("Leave them out with on_error='skip'.", "Leave them out with --on-error skip."),
        ("No column 'x' (columns={'text': 'x'}).", "No column 'x' (--columns text=x)."),
        ('columns={"text": "a b", "label": "c"}', "--columns 'text=a b' --columns label=c"),
        ("Which one? columns={'label': '...'}", "Which one? --columns label=..."),
        ("write columns={role: the data's own name}.", "write --columns COLUMN=NAME."),
        (
            "columns={...}, columns={1, 2} or columns={[]: 1}",
            ", ".join(["--columns COLUMN=NAME"] * 2) + " or --columns COLUMN=NAME",
        ),
        (r"Give task='a\d'.", r"Give --task 'a\d'."),
        ("columns= renames none.", "--columns renames none."),
        ("Name all classes: labels=[...].", "Name all classes: --labels A,B,...."),
        ("labels=['cat', 'a dog']", "--labels 'cat,a dog'"),
        ("Give val=None, or val=0.1.", "Give --val none, or --val 0.1."),
        ("resume=True goes on; resume=False starts afresh.", "--resume goes on; --no-resume starts afresh."),
        ('give batch_size=8 or batch_size="auto"', "give --batch-size 8 or --batch-size auto"),
        ("give betas=[0.9, 0.95].", "give betas=[0.9, 0.95]."),  # No option of the command.
        ("zoo.load('gpt2', weights=None) builds it.", "zoo.load('gpt2', weights=None) builds it."),
        ("f(a(task='x'), task='y') and task='y'", "f(a(task='x'), task='y') and --task y"),
        ("The text 'task=1' came from /a?task=1.", "The text 'task=1' came from /a?task=1."),
        ("--columns takes NAME=VALUE, not 'x'.", "--columns takes NAME=VALUE, not 'x'."),
    ],
)
def test_options_of_a_call_are_told_as_they_are_typed(message: str, typed: str) -> None:
    assert as_typed(message, finetune) == typed


def test_what_can_not_be_typed_stays() -> None:
    # A switch that only turns on, and a number that has no word for none.
    assert as_typed("multi_label=False, or multi_label=True", predict) == "multi_label=False, or --multi-label"
    assert as_typed("max_new_tokens=None", predict) == "max_new_tokens=None"
    assert as_typed('generation={"num_beams": 4}', evaluate) == "--generation '{\"num_beams\": 4}'"
    assert as_typed('Leave calibration= out, or give precision="int8".', export) == (
        "Leave --calibration out, or give --precision int8."
    )


def test_a_command_says_what_to_type(tmp_path: Path) -> None:
    data = tmp_path / "reviews.csv"
    data.write_text("review,stars\ngood,5\nbad,1\n", encoding="utf-8")
    asked = ["finetune", "bert-tiny", str(data), "-o", str(tmp_path / "out"), "--weights", "none"]
    result = CliRunner().invoke(app, [*asked, "--task", "text-classification"])
    assert result.exit_code == 1
    assert "--columns text=review --columns label=stars" in result.stderr
    assert "columns=" not in result.stderr
