"""What a loop of one's own has to prove: exact accumulating, resuming and sharding, and a reference's trajectory."""

from __future__ import annotations

import copy
import json
import multiprocessing
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import worker
from tests.training.tiny import World, distance, run, text_world, weights
from zoo.tasks.base import LossOptions
from zoo.training import TrainConfig, batching, encoding

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("token-classification", "text-classification")
STEADY: dict[str, Any] = {"scheduler": "constant", "warmup_ratio": 0.0, "augment": "none"}


# 1. Accumulating k x b equals one batch of k*b.


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_accumulating_equals_one_large_batch(task: str, optimizer: str) -> None:
    options = {**STEADY, "optimizer": optimizer, "learning_rate": 1e-3, "epochs": 2, "weight_decay": 0.1}
    found = []
    for size, times in ((12, 1), (3, 4), (5, 1)):
        world = text_world(task, rows=36)
        _, losses = run(world, batch_size=size, gradient_accumulation=times, **options)
        found.append((weights(world.module), losses))
    (large, large_losses), (accumulated, losses), (other, _) = found
    assert losses == pytest.approx(large_losses, abs=1e-6)
    # AdamW divides by the root of tiny squares, which magnifies the last bit of a gradient.
    assert distance(large, accumulated) < (1e-6 if optimizer == "sgd" else 2e-5)
    assert distance(large, other) > 1e-4, "the comparison must be able to fail"


@pytest.mark.parametrize("class_weights", [None, {"O": 0.3, "B-A": 2.5}])
def test_accumulated_gradient_is_that_of_the_mean_over_all_tokens(class_weights: dict[str, float] | None) -> None:
    """Against autograd on one padded batch, with labels that are ragged: rows of 1 to 12 words."""
    world, rate = text_world("token-classification", rows=16), 0.5
    before = weights(world.module)
    expected = _mean_gradient(copy.deepcopy(world), class_weights)
    run(
        world, val=False, batch_size=3, gradient_accumulation=6, epochs=1, optimizer="sgd", momentum=0.0,
        weight_decay=0.0, max_grad_norm=None, learning_rate=rate, class_weights=class_weights, **STEADY,
    )  # fmt: skip
    after = weights(world.module)
    seen = {name: (before[name] - after[name]) / rate for name in expected}
    assert distance(seen, expected) < 1e-6
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-2


def _mean_gradient(world: World, class_weights: dict[str, float] | None) -> dict[str, torch.Tensor]:
    examples = [e for row in world.rows for e in world.task.examples(world.encoder, row.input, row.target)]
    inputs = {name: torch.from_numpy(array) for name, array in world.encoder.collate(examples).items()}
    labels = torch.from_numpy(world.task.collate_targets(examples)["labels"])
    scale = [(class_weights or {}).get(label, 1.0) for label in world.task.labels]
    logits = world.module.train()(**inputs)["logits"]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight=torch.tensor(scale)).backward()
    return {name: p.grad for name, p in world.module.named_parameters() if p.grad is not None}


# 2. Killed and resumed equals uninterrupted, bit for bit.

RESUMED = {
    "epochs": 3, "batch_size": 8, "learning_rate": 2e-3, "class_weights": "balanced", "scheduler": "one_cycle",
    "layer_decay": 0.8, "ema_decay": 0.9, "loss": "focal",
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert _process(folder / "out", RESUMED) == 0
    return _result(folder / "out")


@pytest.mark.parametrize(
    ("kill", "more", "code"),
    [
        # In the middle of the second epoch of 5 steps: back to the end of the first.
        ({"step": 8, "signal": "SIGKILL"}, {}, -9),
        # The same with a checkpoint inside the epoch.
        ({"step": 8, "signal": "SIGKILL"}, {"checkpoint_steps": 3}, -9),
        # Asked to end in the middle of the epoch: saved right there.
        ({"step": 7, "signal": "SIGTERM"}, {}, 130),
        ({"step": 10, "signal": "SIGINT"}, {}, 130),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    kill: dict[str, Any], more: dict[str, Any], code: int, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    options = {**RESUMED, **more, "output_dir": str(tmp_path / "run"), "resume": True}
    assert _process(tmp_path / "out", options, kill=kill) == code
    assert not list(tmp_path.glob("out*")), "it must have been killed"
    assert _process(tmp_path / "out", options) == 0
    resumed = _result(tmp_path / "out")
    first = len(uninterrupted["losses"]) - len(resumed["losses"])
    assert first == {("SIGKILL", 0): 5, ("SIGKILL", 3): 6}.get(
        (kill["signal"], more.get("checkpoint_steps", 0)), kill["step"]
    )
    assert resumed["losses"] == uninterrupted["losses"][first:]
    assert resumed["history"] == uninterrupted["history"]
    assert distance(resumed["weights"], uninterrupted["weights"]) == 0.0


# 3. Two processes equal one.


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_equal_one(task: str, tmp_path: Path) -> None:
    """27 ragged rows: the last step has an odd number, and the passes of a step are shared unequally."""
    options = {**STEADY, "epochs": 2, "learning_rate": 1e-2, "optimizer": "sgd", "label_smoothing": 0.1}
    if task == TASKS[0]:
        options["ema_decay"] = 0.9
    common = {"task": task, "rows": 27, "dropout": 0.0}
    assert _process(tmp_path / "one", {**options, "batch_size": 4, "gradient_accumulation": 2}, **common) == 0
    halved = {**options, "batch_size": 2, "gradient_accumulation": 2}
    launcher = task == TASKS[0]  # as users start it; the other time without the wait for its imports
    assert _process(tmp_path / "two", halved, processes=2, launcher=launcher, **common) == 0
    one, two, other = _result(tmp_path / "one"), _result(tmp_path / "two"), _result(tmp_path / "two", rank=1)
    assert distance(two["weights"], other["weights"]) == 0.0, "the processes must agree with each other"
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-6)
    assert distance(two["weights"], one["weights"]) < 1e-6
    for record, expected in zip(two["history"], one["history"], strict=True):
        assert record == pytest.approx(expected, abs=1e-6)


def test_two_processes_stop_together_and_resume(tmp_path: Path) -> None:
    """A signal to both is heard at the same step of both; the resumed run ends as if there had been none."""
    common = {"task": "text-classification", "rows": 20, "dropout": 0.1, "processes": 2}
    options = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "output_dir": str(tmp_path / "run"), "resume": True}
    assert _process(tmp_path / "whole", {**options, "output_dir": str(tmp_path / "whole")}, **common) == 0
    assert _process(tmp_path / "out", options, kill={"step": 3, "signal": "SIGTERM"}, **common) != 0
    assert _process(tmp_path / "out", options, **common) == 0
    whole, resumed = _result(tmp_path / "whole"), _result(tmp_path / "out")
    assert len(resumed["losses"]) < len(whole["losses"])
    assert resumed["history"] == whole["history"]
    assert distance(resumed["weights"], whole["weights"]) == 0.0


# 4. The trajectory of transformers.Trainer.


@pytest.mark.parametrize("task", TASKS)
def test_same_trajectory_as_transformers_trainer(task: str, tmp_path: Path) -> None:
    options = {
        "epochs": 2, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 3e-3, "weight_decay": 0.05,
        "scheduler": "cosine", "warmup_ratio": 0.25, "max_grad_norm": 0.5,
    }  # fmt: skip
    world = text_world(task, rows=32)
    before = weights(world.module.net)
    expected, net = _trainer(copy.deepcopy(world), TrainConfig(**options), tmp_path)
    _, losses = run(world, val=False, **options)
    assert len(losses) == 8
    assert losses == pytest.approx(expected, abs=1e-5)
    after = weights(world.module.net)
    assert distance(after, weights(net)) < 1e-4
    assert distance(after, before) > 5e-3, "it must have moved"


def _trainer(world: World, config: TrainConfig, folder: Path) -> tuple[list[float], torch.nn.Module]:
    """The reference's loss at each step, on the same rows in the same order; and its network.

    In whole batches: accumulating, this reference does not divide the loss of heads like BERT's.
    """
    import transformers

    items = encoding.make_items(world.train, world.encoder, world.task, pytest.fail, None)
    size = 8
    order = [
        int(item)
        for epoch in range(config.epochs)
        for step in batching.steps(items.lengths, size, seed=config.seed, epoch=epoch)
        for item in step
    ]
    examples = [items.load(0, item)[0] for item in order]

    def collate(batch: list[Any]) -> dict[str, torch.Tensor]:
        targets = world.task.collate_targets(batch)
        arrays = {**world.encoder.collate(batch), "labels": targets.get("labels", targets.get("label"))}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    losses: list[float] = []

    class Reference(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(examples)  # type: ignore[arg-type]

        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            losses.append(float(loss))
            return loss

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=1, per_device_train_batch_size=8,
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, lr_scheduler_type="cosine",
        warmup_steps=2, max_grad_norm=config.max_grad_norm, report_to=[], save_strategy="no", logging_strategy="no",
        use_cpu=True, disable_tqdm=True, remove_unused_columns=False, seed=0,
    )  # fmt: skip
    net = world.module.net
    Reference(net, arguments, train_dataset=examples, data_collator=collate).train()
    return losses, net


# Runs in processes of their own.


_CONTEXT = multiprocessing.get_context("forkserver")
# Importing torch takes ten times as long as a run: once, in the server that the processes are forked from.
_CONTEXT.set_forkserver_preload(["tests.training.worker"])


def _process(
    out: Path,
    options: dict[str, Any],
    *,
    task: str = "text-classification",
    rows: int = 40,
    dropout: float = 0.1,
    processes: int = 1,
    kill: dict[str, Any] | None = None,
    launcher: bool = False,
) -> int:
    """The exit status; the worst of several processes'."""
    given = {"task": task, "rows": rows, "dropout": dropout, "options": options, "kill": kill}
    if launcher:
        return _launched(out, given, processes)
    # Without the last, accelerate gives each process all the cores there are.
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    shared["OMP_NUM_THREADS"] = "1"
    started = []
    for rank in range(processes):
        environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        process = _CONTEXT.Process(target=worker.forked, args=(str(out), given, environment))
        process.start()
        started.append(process)
    for process in started:
        process.join(200)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert None not in codes, "a process hangs"
    return max(codes, key=abs)


def _launched(out: Path, given: dict[str, Any], processes: int) -> int:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launcher, "-m", "tests.training.worker", str(out), json.dumps(given)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    print(done.stdout[-2000:], done.stderr[-4000:])
    return done.returncode


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _result(out: Path, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(f"{out}.{rank}.pt", weights_only=True)
    return {**found, "history": json.loads(Path(f"{out}.{rank}.json").read_text())}


def test_the_weight_is_counted_before_the_pass() -> None:
    """The proofs above lean on it: a step's weight is the sum of its passes' weights."""
    world = text_world("token-classification", rows=8)
    items = encoding.make_items(world.train, world.encoder, world.task, pytest.fail, None)
    examples = [items.load(0, item)[0] for item in range(len(items))]
    whole = world.task.weight(world.task.collate_targets(examples), LossOptions())
    parts = [world.task.weight(world.task.collate_targets([e]), LossOptions()) for e in examples]
    assert whole == sum(parts)
    assert len(set(parts)) > 2
