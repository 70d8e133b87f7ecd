"""docs/production.md: its five commands, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import transformers

from tests.backends.conftest import BERT
from tests.serving.process import serving
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.tokenizing import save_tokenizer

PAGE = Path(__file__).resolve().parent.parent / "docs" / "production.md"


def commands() -> list[list[str]]:
    [block] = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


def zoo_command(arguments: list[str], folder: Path) -> str:
    line = [sys.executable, "-c", "from zoo.cli import main; main()", *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_five_commands(tmp_path: Path) -> None:
    config = transformers.BertConfig(**BERT, id2label={0: "bad", 1: "good"})
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "checkpoint")
    save_tokenizer(byte_tokenizer(style="bert"), tmp_path / "checkpoint")
    export, verify, predict, serve, curl = commands()
    assert [line[0] for line in (export, verify, predict, serve, curl)] == ["zoo"] * 4 + ["curl"]
    assert "answers as torch does" in zoo_command(export[1:], tmp_path)
    assert "is intact" in zoo_command(verify[1:], tmp_path)
    said = zoo_command(predict[1:], tmp_path)
    [bundle] = [word for word in serve if word.endswith(".bundle")]
    assert serve[1:] == ["serve", bundle, "--port", "8000"]
    with serving(tmp_path / bundle) as server:
        address = curl[2].replace("localhost:8000", f"http://127.0.0.1:{server.port}")
        name, _, value = curl[curl.index("-H") + 1].partition(": ")
        request = urllib.request.Request(address, curl[curl.index("-d") + 1].encode(), {name: value})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result = json.loads(answer.read())["result"]
    assert result["label"] in ("bad", "good")
    assert result["label"] in said
