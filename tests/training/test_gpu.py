"""What only a GPU shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.test_media import image_world, pictures  # noqa: F401
from tests.training.tiny import World, run, text_world
from zoo.errors import TrainingError
from zoo.training.machine import resolve_precision
from zoo.training.stepping import Stepper

pytestmark = pytest.mark.gpu
FAST = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3}


def on_gpu(world: World) -> World:
    world.module.to("cuda")
    return world


def test_auto_is_bf16_where_it_is_supported() -> None:
    expected = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    assert resolve_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_losses_are_those_of_the_cpu(precision: str) -> None:
    _, expected = run(text_world(), **FAST)
    _, losses = run(on_gpu(text_world()), precision=precision, tf32=False, **FAST)
    assert losses == pytest.approx(expected, abs=1e-3 if precision == "fp32" else 0.05)


def test_a_step_never_waits_for_the_device(
    pictures: list[tuple[Path, str]],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch raises at any operation that makes the host wait."""
    world, steps = on_gpu(image_world(pictures)), []
    backward, apply = Stepper.backward, Stepper.apply

    def strict(call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps.append(1)
            # The first steps set up the optimiser's state and the libraries' workspaces.
            torch.cuda.set_sync_debug_mode("error" if len(steps) > 4 else "default")
            try:
                return call(*args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return wrapped

    monkeypatch.setattr(Stepper, "backward", strict(backward))
    monkeypatch.setattr(Stepper, "apply", strict(apply))
    _, losses = run(world, num_workers=0, precision="bf16", **{**FAST, "epochs": 4})
    assert all(np.isfinite(losses))
    assert len(steps) > 10


def test_a_nan_is_named_with_its_own_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Found some steps later, and nothing was saved in between."""
    original, seen = Stepper._forward_backward, []

    def forward_backward(self: Stepper, batch: Any, scale: Any, *, last: bool) -> torch.Tensor:
        seen.append(batch.rows)
        return original(self, batch, scale, last=last) * (float("nan") if len(seen) == 5 else 1.0)

    monkeypatch.setattr(Stepper, "_forward_backward", forward_backward)
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1, step 5,") as raised:
        run(on_gpu(text_world()), output_dir=tmp_path, checkpoint_steps=7, **FAST)
    assert all(f"rows[{row}]" in str(raised.value) for row in seen[4])
    assert not list(tmp_path.rglob("manifest.json"))


def test_resuming_on_the_gpu(tmp_path: Path) -> None:
    class Gone(Exception):
        pass

    def stop(record: Any) -> None:
        raise Gone

    expected, _ = run(on_gpu(text_world(dropout=0.1)), **FAST)
    with pytest.raises(Gone):
        run(on_gpu(text_world(dropout=0.1)), output_dir=tmp_path, on_epoch=stop, **FAST)
    history, _ = run(on_gpu(text_world(dropout=0.1)), output_dir=tmp_path, resume=True, **FAST)
    assert [record["train_loss"] for record in history] == pytest.approx([r["train_loss"] for r in expected], abs=1e-3)


def test_memory_really_runs_out() -> None:
    """The batch shrinks until it fits into what is left of the device."""
    world = on_gpu(text_world("token-classification", rows=200))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 24 * 2**20) / total)
    try:
        _, losses = run(world, batch_size="auto", epochs=1)
    except TrainingError as error:
        assert "Memory ran out" in str(error)  # noqa: PT017
    else:
        assert all(np.isfinite(losses))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
