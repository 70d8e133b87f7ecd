"""docs/sizing.md: its commands, as they stand there, and its figures."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.process import serving

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")


def test_the_page_has_the_measured_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    module = runpy.run_path(str(ROOT / "benchmarks" / "serving_sizing.py"))
    found = json.loads(module["RESULT"].read_text(encoding="utf-8"))
    assert module["memory_table"](found) in PAGE
    assert f"some {found['base_bytes'] / 1e6:.0f} MB" in PAGE


def test_the_commands(tmp_path: Path, bundles: dict[str, Path]) -> None:
    [block] = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    bench, serve, wrk, curl = (shlex.split(line) for line in block.splitlines())
    assert (bench[:3], serve[:3]) == (["zoo", "bench", "tagger.bundle"], ["zoo", "serve", "tagger.bundle"])
    line = [sys.executable, "-c", "from zoo.cli import main; main()", *bench[1:]]
    done = subprocess.run(line, cwd=bundles["tagger"].parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with serving(bundles["tagger"], *serve[3:]) as server:
        if shutil.which("wrk") is None:
            pytest.skip("wrk is not installed")
        [script] = re.findall(r"```lua\n(.*?)```", PAGE, flags=re.DOTALL)
        (tmp_path / "post.lua").write_text(script, encoding="utf-8")
        here = [word.replace(":8000", f":{server.port}").replace("-d10s", "-d1s") for word in wrk]
        said = subprocess.run(here, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert "Requests/sec" in said
        assert "Non-2xx" not in said
        here = [word.replace(":8000", f":{server.port}") for word in curl]
        figures = subprocess.run(here, capture_output=True, text=True, check=True).stdout
    for name in ("zoo_batch_rows", "zoo_batch_seconds", "zoo_queue_rows"):
        assert name in figures
