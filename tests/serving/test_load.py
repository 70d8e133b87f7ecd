"""benchmarks/serving_load.py with fewer requests: mixed, slow, broken off; exchanges of a model; a SIGTERM."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import questions, tiny_bundles

ROOT = Path(__file__).resolve().parent.parent.parent


def test_no_answer_is_wrong_and_none_is_lost(
    tmp_path: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("", "benchmarks", "benchmarks/quality"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    import serving_load

    for name in ("tagger", "animals", "speech", "writer"):
        shutil.copytree(bundles[name], tmp_path / bundles[name].name)
    found = serving_load.prove(tmp_path, 1500, exchanges=2)
    assert (found["wrong"], found["lost"], found["examples"]) == (0, 0, [])
    assert found["requests"] >= 1500
    assert found["reloads"] == {"signal": 1, "route": 1, "refused as damaged": 1}
    assert found["exit codes"] == [0, 0]
    assert found["faults of the server (5xx)"] == 0
    assert found["answered after SIGTERM"] > 0
    assert all(kind["asked"] == kind["right"] > 0 for kind in found["by kind"].values())


def test_the_answer_of_one_question_is_wrong_for_nearly_all_others(tmp_path: Path) -> None:
    """Else an answer that went to another client would pass for the right one."""
    tiny_bundles.make(tmp_path)
    for kind, asked in questions.all_of(tmp_path).items():
        if kind == "refused":
            continue
        pairs = [(one, other) for one, other in combinations(asked, 2) if one.sent != other.sent]
        alike = [any(questions.same(a, b) for a in one.answers for b in other.answers) for one, other in pairs]
        assert np.mean(alike) < 0.15, kind
