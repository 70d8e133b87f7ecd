"""The folders that the zoo writes: a saved model (`kind: model`) and an exported one (`kind: bundle`).

Both hold `zoo.yaml` (what it is), a `manifest.json` with the size and sha256 of every other file, and
what their kind needs: `model.safetensors` or `model.onnx`, and a `tokenizer.json` for text. An
encoder-decoder model has two graphs, `encoder.onnx` and `decoder.onnx`, whose weights stand once in `weights.bin`. What
has a cache of keys and values has `select.onnx` too, which takes rows out of it. Where the output layer is a good part
of a language model, `shortlist.onnx` is the same graph for CPUs, and finds the most probable token without that layer.
A folder appears whole or not at all: it is written beside its place, synced, and renamed into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from zoo import manifest
from zoo.errors import BundleError
from zoo.plain import dump_yaml, load_yaml
from zoo.spec import ModelSpec, TaskName
from zoo.strict import END, Frozen, read

FORMAT = 1
CACHED_FORMAT = 2  # of a bundle whose graph has a cache: earlier readers would run it wrongly
CPU_FORMAT = 3  # of one that has more graphs for CPUs, which earlier readers do not know
CARD, WEIGHTS, TOKENIZER, ADAPTER, SHARED, TARGET_TOKENIZER = (
    "zoo.yaml", "model.safetensors", "tokenizer.json", "adapter.safetensors", "weights.bin", "target_tokenizer.json",
)  # fmt: skip
GRAPH, SHORTLIST, DRAFT = manifest.GRAPH, manifest.SHORTLIST, manifest.DRAFT
SELECT = "select.onnx"
REPORT = "report.html"  # of a bundle: for people, and read by nothing of ours
# Bytes of what is read whole, far above any that we write: a label set of a million names fits.
_MOST_CARD = 4 << 20


class TensorSpec(Frozen):
    """An array that goes in or comes out; a named axis is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


# What `shortlist.onnx` takes and gives besides what `model.onnx` does: the places of new tokens whose successors are
# wanted; of each, tokens that may be the most probable, their logits, and what no other token's logit is above.
SHORTLIST_INPUTS = (TensorSpec(name="shortlist_of", dtype="int64", shape=("places",)),)
SHORTLIST_OUTPUTS = (
    TensorSpec(name="candidates", dtype="int64", shape=("rows", "listed")),
    TensorSpec(name="candidate_logits", dtype="float32", shape=("rows", "listed")),
    TensorSpec(name="rest", dtype="float32", shape=("rows",)),
)


class Parity(Frozen):
    """How far the graph's answers were from torch's on the same raw inputs."""

    passed: bool
    samples: int
    cases: Annotated[int, Meta(description="Batches compared: every batch size, each over ragged rows.")]
    batch_sizes: tuple[int, ...]
    max_abs_difference: Annotated[
        float, Meta(description="Over every element of the output that differs the most, by its own scale.")
    ]
    scale: Annotated[float, Meta(description="The largest absolute value of that output, by torch.")]
    tolerance: Annotated[float, Meta(description="Allowed difference, already multiplied by the scale.")]
    agreement: Annotated[float, Meta(description="Share of samples whose final result is the same, in [0, 1].")]
    source: Literal["user", "built-in"]


class Export(Frozen):
    """How the graph was made."""

    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    opset: int
    versions: dict[str, str] = field(default_factory=dict)


class Attempt(Frozen):
    """One way of reducing the precision, and how it ended. Measured on the rows that calibrated and searched."""

    way: str
    verdict: str
    before: Annotated[float | None, Meta(description="The metric of fp32.")] = None
    after: float | None = None
    speed: Annotated[float | None, Meta(description="Times as fast as fp32.")] = None
    speed_between: Annotated[tuple[float, float] | None, Meta(description="As of `Quality`.")] = None
    bytes: int | None = None
    left_out: Annotated[int, Meta(description="Operators that stay fp32 because they hurt.")] = 0


class Quality(Frozen):
    """What a reduced precision costs and gains against fp32, on labelled rows that nothing was chosen by."""

    passed: bool
    way: Annotated[
        str | None, Meta(description='How the graph was reduced, such as "int8 static"; None where nothing passed.')
    ] = None
    metric: str
    before: float | None = None
    after: float | None = None
    drop: Annotated[float | None, Meta(description="How much worse; a share of `before` where `relative`.")] = None
    relative: bool
    max_drop: float
    rows: Annotated[int, Meta(description="Judged on.")]
    calibration_rows: Annotated[int, Meta(description="Calibrated and searched on.")]
    speed: Annotated[float | None, Meta(description="Times as fast as fp32, in the batches that predict() makes.")] = (
        None
    )
    speed_between: Annotated[
        tuple[float, float] | None,
        Meta(description="What the median of the rounds lies between in 99 measurements of a hundred."),
    ] = None
    device: Annotated[str, Meta(description="Where both were measured.")]
    bytes_before: int
    bytes_after: int | None = None
    left_out: Annotated[tuple[str, ...], Meta(description="Operators that stay fp32 because they hurt.")] = ()
    tried: tuple[Attempt, ...] = ()


class Adapter(Frozen):
    """What a parameter-efficient method put into a network: enough to put it there again."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    base_sha256: Annotated[str, Meta(description="Of the frozen body's tensors that it was trained on.")]
    parameters: Annotated[int, Meta(description="Trained ones: the adapter's and the head's.")]


class Graph(Frozen):
    """One of several graphs: its file, and its own contract."""

    name: Annotated[str, Meta(pattern=rf"^[a-z_]+{END}")]
    file: Annotated[str, Meta(pattern=rf"^[a-z_]+\.onnx{END}")]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def draft_of(model: Graph) -> Graph:
    """What `draft.onnx` takes and gives beside this graph of a language model: the same of one token of one text."""

    def one(arrays: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                name=item.name,
                dtype=item.dtype,
                shape=tuple(1 if side in ("batch", "length", "kept") else side for side in item.shape),
            )
            for item in arrays
        )

    return Graph(name="draft", file=DRAFT, inputs=one(model.inputs), outputs=one(model.outputs))


class Card(Frozen):
    """`zoo.yaml`: the resolved spec, the task, and for a bundle its input and output contract."""

    format: int = FORMAT
    kind: Literal["model", "bundle", "adapter"]
    zoo: str
    task: TaskName
    spec: ModelSpec
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    graphs: (
        Annotated[
            tuple[Graph, ...],
            Meta(
                max_length=8,
                description="None: one graph, model.onnx. Several: an encoder and a decoder, weights beside them; or a "
                "language model with a cache, what selects rows of it, and the same for CPUs.",
            ),
        ]
        | None
    ) = None
    export: Export | None = None
    parity: Annotated[Parity | None, Meta(description="Of the fp32 graph, whatever the precision.")] = None
    quality: Quality | None = None
    adapter: Adapter | None = None
    history: tuple[dict[str, Any], ...] = ()


def is_folder(path: Path) -> bool:
    """Whether this folder was written by the zoo."""
    return (path / CARD).is_file()


def read_card(folder: Path) -> Card:
    """The folder's `zoo.yaml`. Raises BundleError when there is none or it is of a later format."""
    if not os.path.lexists(folder / CARD):
        raise BundleError(f"{folder} is no folder of the zoo: it has no {CARD}.")
    path = manifest.inside(folder, CARD, most=_MOST_CARD)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is damaged: it is not UTF-8 ({error.reason} at byte {error.start}).") from error
    data = load_yaml(text, where=str(path))
    version = data.get("format") if isinstance(data, dict) else None
    if version not in (FORMAT, CACHED_FORMAT, CPU_FORMAT):
        raise BundleError(
            f"{path} is of format {str(version)[:20]!r}; this version reads formats {FORMAT} to {CPU_FORMAT}. "
            "Upgrade polyzoo."
        )
    return read(Card, data, where=str(path))


def write_card(folder: Path, card: Card) -> None:
    text = dump_yaml(card.to_dict(none=False))
    if len(text.encode()) > _MOST_CARD:
        raise BundleError(f"{CARD} would have {len(text.encode()):,} bytes; up to {_MOST_CARD:,} can be read again.")
    (folder / CARD).write_text(text, encoding="utf-8")


@contextmanager
def writing(target: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes `target`, with its manifest, when the block ends without an error.

    On an error (a full disk, an interrupt) the temporary folder goes and what was at `target` stays.
    Raises BundleError when `target` is something that the zoo did not write.
    """
    import shutil

    target = Path(target)
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, ".tmp")
    try:
        yield temporary
        manifest.write(temporary)
        temporary.chmod(0o755)
        publish(temporary, target)
    except OSError as error:
        raise BundleError(f"{target} could not be written ({error}); what was there before is untouched.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(target: Path, suffix: str) -> Path:
    """A new folder on the same file system. Whoever only reads a bundle does not wait for these imports."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=suffix, dir=target.parent))


def check_target(target: Path) -> None:
    """Raises BundleError when `target` is something that the zoo did not write, before any work is done."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise BundleError(f"{target} is a file; give the name of a folder.")
    if any(target.iterdir()) and not (target / manifest.MANIFEST).is_file():
        raise BundleError(f"{target} holds files that the zoo did not write; give another folder, or empty it first.")


def publish(temporary: Path, target: Path) -> None:
    """Rename a finished folder to its place, in one step for a reader; what was there before goes."""
    import shutil

    if target.exists():
        old = _beside(target, ".old")
        os.rename(target, old / "was")
        try:
            os.rename(temporary, target)
        except OSError:
            os.rename(old / "was", target)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(temporary, target)
    manifest.sync(target.parent)
