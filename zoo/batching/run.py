"""A run: the parts that are missing, over the processes of a Ray cluster, by Ray Data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from zoo import bundle as folders
from zoo import cluster as ray_cluster
from zoo import manifest, tasks
from zoo.batching import files, plan
from zoo.batching.work import Job, Worker
from zoo.errors import BundleError, ConfigError, ZooError
from zoo.inference import limits_of
from zoo.plain import load_json
from zoo.predictor import labels_for
from zoo.tasks.base import Task

if TYPE_CHECKING:
    from zoo.inference import BatchSize

_FACTS = "_batch.json"  # what reads a folder of Parquet leaves such names out
_BLOCKS = 10_000
_DEATHS = 8  # of workers one after the other, before one has started


@final
@dataclass(frozen=True, slots=True)
class BatchRun:
    """How far a run is. rows: answered so far, `errors` among them; parts: finished ones, of `of`; kept: by an
    earlier run."""

    output: Path
    rows: int
    errors: int
    parts: int
    of: int
    kept: int

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "output": str(self.output)}


def batch(
    bundle: str | Path,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    workers: int | None = None,
    threads: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    cluster: str = "local",
    part_rows: int = 500,
    batch_size: BatchSize = "auto",
    on_part: Callable[[BatchRun], None] | None = None,
    **options: Any,
) -> BatchRun:
    """Answer many inputs on many machines, each worker with a copy of the bundle, and write the answers to a folder.

    inputs: a folder, a pattern such as "photos/**/*.jpg", a table (.csv, .tsv, .jsonl, .parquet) of texts, paths or
        rows, or a list of these.
    output: a folder of Parquet files, or of JSON lines where its name ends in .jsonl; a line an input, with `input`
        (the file), `row` (of a table, from 0), `result` (JSON; of feature-extraction the vector) and `error`. Finished
        files of an earlier run with the same inputs and options are kept.
    columns: what a table calls the input's columns, {"text": "review"}.
    workers: processes; as many as the cluster has cores for `threads` each, or GPUs, when None.
    device: "cuda" gives each worker a GPU of its own.
    cluster: "local" starts Ray on this machine; else what `ray.init(address=...)` takes. Bundle, inputs and output are
        opened by the workers: their paths must lead to the same files on every machine.
    part_rows: inputs in one file of the output: what a killed worker loses at most.
    on_part: called after each part.
    options: of predict().
    Raises ConfigError, DataError and BundleError before anything starts; an input that can't be read is a line in the
    output, and never an error of the run.
    """
    ray = ray_cluster.import_ray("zoo.batch()")
    files.import_arrow()
    _check(workers=workers, threads=threads, device=device, part_rows=part_rows)
    limits_of(batch_size, "text")
    folder, target = Path(bundle).resolve(), Path(output).resolve()
    task = _task(folder, options)
    roles = plan.Roles.of(task, columns)
    paths = [os.path.abspath(path) for path in plan.sources(inputs, task.spec.input.kind)]
    todo = list(plan.parts(paths, roles, size=part_rows))
    if all(part.broken for part in todo):
        raise ConfigError(f"Nothing can be read: {todo[0].broken}" if todo else "The tables have no rows.")
    kind = files.written_as(target)
    job = Job(str(folder), str(target), kind, dict(columns) if columns else None, device, threads, batch_size, options)
    _claim(target, _facts(folder, job, todo))
    done = _done(target, todo, kind)
    if on_part is not None:
        on_part(done)
    missing = [number for number in range(len(todo)) if not (target / files.name_of(number, kind)).exists()]
    if missing:
        with ray_cluster.connected(ray, cluster), _settings():
            for number, errors in _answered(ray, job, {number: todo[number] for number in missing}, workers):
                done = dataclasses.replace(
                    done, rows=done.rows + todo[number].rows, errors=done.errors + errors, parts=done.parts + 1
                )
                if on_part is not None:
                    on_part(done)
    return done


def _check(*, workers: int | None, threads: int, device: str, part_rows: int) -> None:
    for name, value in {"workers": workers, "threads": threads, "part_rows": part_rows}.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not whole and (name, value) != ("workers", None):
            raise ConfigError(f"{name} is {value!r}; give a positive whole number.")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f'device is {device!r}; it is "cpu" or "cuda".')


def _task(folder: Path, options: Mapping[str, Any]) -> Task:
    """The bundle's task. Raises BundleError and ConfigError for what every worker would stumble over."""
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}. `zoo export` writes one.")
    manifest.verify(folder)
    card = folders.read_card(folder)
    if card.kind != "bundle":
        raise BundleError(f"{folder} is a saved model, not an exported bundle: `zoo export` makes one.")
    task = tasks.make(card.task, card.spec, labels_for(card.task, card.spec))
    task.parse_options(options)
    return task


def _facts(folder: Path, job: Job, todo: Sequence[plan.Part]) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    work = hashlib.sha256("\n".join(part.dump() for part in todo).encode("utf-8", "surrogatepass"))
    return {
        "format": 1,
        "bundle": folder.name,
        "bundle_sha256": manifest.sha256(folder / manifest.MANIFEST),
        "inputs_sha256": work.hexdigest(),
        "parts": len(todo),
        "rows": sum(part.rows for part in todo),
        "columns": job.columns,
        "options": json.loads(json.dumps(job.options, default=str)),
    }


def _claim(target: Path, facts: dict[str, Any]) -> None:
    """Make the folder ours, or see that it is of the same run. Raises ConfigError where it is not."""
    said = target / _FACTS
    if said.is_file():
        try:
            found = load_json(said.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != facts:
            differ = [name for name in facts if not isinstance(found, dict) or found.get(name) != facts[name]]
            raise ConfigError(
                f"{target} holds another run, of other {', '.join(differ)}: give another folder, or remove this one."
            )
        for left in target.glob(".part-*"):
            left.unlink(missing_ok=True)
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is there already and holds no run of zoo.batch(); give another folder.")
    target.mkdir(parents=True, exist_ok=True)
    temporary = target / f".{_FACTS}"
    temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, said)


def _done(target: Path, todo: Sequence[plan.Part], kind: files.Written) -> BatchRun:
    """What an earlier run has left."""
    there = {number: path for number in range(len(todo)) if (path := target / files.name_of(number, kind)).exists()}
    rows, errors = sum(todo[number].rows for number in there), sum(map(files.errors_in, there.values()))
    return BatchRun(target, rows, errors, parts=len(there), of=len(todo), kept=len(there))


def _answered(ray: Any, job: Job, todo: Mapping[int, plan.Part], workers: int | None) -> Iterator[tuple[int, int]]:
    """(part, its errors), as they are finished."""
    import ray.data as data

    resources = ray.cluster_resources()
    has = int(resources.get("GPU", 0)) if job.device == "cuda" else int(resources.get("CPU", 1)) // (job.threads or 1)
    most = min(workers or max(has, 1), len(todo))
    if has < 1:
        raise ConfigError(
            f"The cluster has {resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs; a worker needs "
            + ("a GPU." if job.device == "cuda" else f"{job.threads} cores (threads=).")
        )
    work = data.from_items(
        [{"part": number, "work": part.dump()} for number, part in todo.items()],
        override_num_blocks=min(len(todo), _BLOCKS),
    )
    answered = work.map_batches(
        Worker,
        batch_size=1,
        fn_constructor_args=(job,),
        compute=data.ActorPoolStrategy(min_size=min(most, has), max_size=most),
        num_cpus=0 if job.device == "cuda" else job.threads,
        num_gpus=1 if job.device == "cuda" else 0,
    )
    try:
        for row in answered.iter_rows():
            yield int(row["part"]), int(row["errors"])
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ZooError):
            raise cause from error
        raise


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Data tells of itself at length: on_part is for that.

    And it takes a process for dead that it does not need any more before it has started, because the others were
    quicker; that is no reason to fail, as Ray Data does with the first one.
    """
    from ray.data import DataContext

    context, log = DataContext.get_current(), logging.getLogger("ray.data")
    before, level = (context.enable_progress_bars, context.max_consecutive_actor_init_deaths), log.level
    context.enable_progress_bars, context.max_consecutive_actor_init_deaths = False, _DEATHS
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.max_consecutive_actor_init_deaths = before
        log.setLevel(level)
