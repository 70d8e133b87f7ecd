"""A training run in a process of its own: `python -m tests.training.worker OUT '{"options": ...}'`.

Writes weights, history and losses to OUT (with the rank before its name's end when there are several processes).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import accelerate.data_loader
import torch
import transformers.models.bert.modeling_bert
import transformers.optimization

import zoo.backends.transformers
import zoo.training.fitting
from tests.training.tiny import run, text_world, timeless
from zoo.errors import TrainingInterrupted

# Imported for the processes that are forked from the one that has it.
READY = (accelerate, transformers, zoo)


def main(out: str, given: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    world = text_world(given["task"], rows=given["rows"], dropout=given["dropout"])
    kill = given.get("kill")

    def on_step(seen: Any) -> None:
        if kill and seen.note.step == kill["step"]:
            os.kill(os.getpid(), getattr(signal, kill["signal"]))

    try:
        history, losses = run(world, on_step=on_step, **given["options"])
    except TrainingInterrupted as error:
        print(error)
        return 130
    rank = os.environ.get("RANK", "0")
    torch.save({"weights": world.module.state_dict(), "losses": losses}, Path(f"{out}.{rank}.pt"))
    Path(f"{out}.{rank}.json").write_text(json.dumps(timeless(history)))
    return 0


def forked(out: str, given: dict[str, Any], environment: dict[str, str]) -> None:
    """The same in a process that a test has forked."""
    os.environ.update(environment)
    sys.exit(main(out, given))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], json.loads(sys.argv[2])))
