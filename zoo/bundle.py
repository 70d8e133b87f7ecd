"""The folders that the zoo writes: a saved model (`kind: model`) and an exported one (`kind: bundle`).

Both hold `zoo.yaml` (what it is), a `manifest.json` with the size and sha256 of every other file, and
what their kind needs: `model.safetensors` or `model.onnx`, and a `tokenizer.json` for text. An
encoder-decoder model has two graphs, `encoder.onnx` and `decoder.onnx`, whose weights stand once in `weights.bin`. What
has a cache of keys and values has `select.onnx` too, which takes rows out of it.
A folder appears whole or not at all: it is written beside its place, synced, and renamed into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from zoo.errors import BundleError
from zoo.plain import dump_yaml, load_json, load_yaml
from zoo.spec import Frozen, ModelSpec, TaskName, parse_model

FORMAT = 1
CACHED_FORMAT = 2  # of a bundle whose graph has a cache: earlier readers would run it wrongly
CARD, MANIFEST, GRAPH, WEIGHTS, TOKENIZER, ADAPTER, SHARED, TARGET_TOKENIZER = (
    "zoo.yaml", "manifest.json", "model.onnx", "model.safetensors", "tokenizer.json", "adapter.safetensors",
    "weights.bin", "target_tokenizer.json",
)  # fmt: skip
SELECT = "select.onnx"
REPORT = "report.html"  # of a bundle: for people, and read by nothing of ours
# Bytes of what is read whole, far above any that we write: a label set of a million names fits.
_MOST_CARD = _MOST_MANIFEST = 4 << 20
_HOLE = 1 << 30


class TensorSpec(Frozen):
    """An array that goes in or comes out; a named axis is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Parity(Frozen):
    """How far the graph's answers were from torch's on the same raw inputs."""

    passed: bool
    samples: int
    cases: int = Field(description="Batches compared: every batch size, each over ragged rows.")
    batch_sizes: tuple[int, ...]
    max_abs_difference: float = Field(
        description="Over every element of the output that differs the most, by its own scale."
    )
    scale: float = Field(description="The largest absolute value of that output, by torch.")
    tolerance: float = Field(description="Allowed difference, already multiplied by the scale.")
    agreement: float = Field(description="Share of samples whose final result is the same, in [0, 1].")
    source: Literal["user", "built-in"]


class Export(Frozen):
    """How the graph was made."""

    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    opset: int
    versions: dict[str, str] = Field(default_factory=dict)


class Attempt(Frozen):
    """One way of reducing the precision, and how it ended. Measured on the rows that calibrated and searched."""

    way: str
    verdict: str
    before: float | None = Field(default=None, description="The metric of fp32.")
    after: float | None = None
    speed: float | None = Field(default=None, description="Times as fast as fp32.")
    speed_between: tuple[float, float] | None = Field(default=None, description="As of `Quality`.")
    bytes: int | None = None
    left_out: int = Field(default=0, description="Operators that stay fp32 because they hurt.")


class Quality(Frozen):
    """What a reduced precision costs and gains against fp32, on labelled rows that nothing was chosen by."""

    passed: bool
    way: str | None = Field(description='How the graph was reduced, such as "int8 static"; None where nothing passed.')
    metric: str
    before: float | None = None
    after: float | None = None
    drop: float | None = Field(default=None, description="How much worse; a share of `before` where `relative`.")
    relative: bool
    max_drop: float
    rows: int = Field(description="Judged on.")
    calibration_rows: int = Field(description="Calibrated and searched on.")
    speed: float | None = Field(default=None, description="Times as fast as fp32, in the batches that predict() makes.")
    speed_between: tuple[float, float] | None = Field(
        default=None, description="What the median of the rounds lies between in 99 measurements of a hundred."
    )
    device: str = Field(description="Where both were measured.")
    bytes_before: int
    bytes_after: int | None = None
    left_out: tuple[str, ...] = Field(default=(), description="Operators that stay fp32 because they hurt.")
    tried: tuple[Attempt, ...] = ()


class Adapter(Frozen):
    """What a parameter-efficient method put into a network: enough to put it there again."""

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    base_sha256: str = Field(description="Of the frozen body's tensors that it was trained on.")
    parameters: int = Field(description="Trained ones: the adapter's and the head's.")


class Graph(Frozen):
    """One of several graphs: its file, and its own contract."""

    name: str = Field(pattern=r"^[a-z_]+$")
    file: str = Field(pattern=r"^[a-z_]+\.onnx$")
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Card(Frozen):
    """`zoo.yaml`: the resolved spec, the task, and for a bundle its input and output contract."""

    format: int = FORMAT
    kind: Literal["model", "bundle", "adapter"]
    zoo: str
    task: TaskName
    spec: ModelSpec
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    graphs: tuple[Graph, ...] | None = Field(
        default=None,
        max_length=8,
        description="None: one graph, model.onnx. Several: an encoder and a decoder, weights beside them; or a "
        "language model with a cache and what selects rows of it.",
    )
    export: Export | None = None
    parity: Parity | None = Field(default=None, description="Of the fp32 graph, whatever the precision.")
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
    path = inside(folder, CARD, most=_MOST_CARD)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is damaged: it is not UTF-8 ({error.reason} at byte {error.start}).") from error
    data = load_yaml(text, where=str(path))
    version = data.get("format") if isinstance(data, dict) else None
    if version not in (FORMAT, CACHED_FORMAT):
        raise BundleError(
            f"{path} is of format {str(version)[:20]!r}; this version reads formats {FORMAT} to {CACHED_FORMAT}. "
            "Upgrade polyzoo."
        )
    return parse_model(Card, data, where=str(path))


def write_card(folder: Path, card: Card) -> None:
    text = dump_yaml(card.model_dump(mode="json", exclude_none=True))
    if len(text.encode()) > _MOST_CARD:
        raise BundleError(f"{CARD} would have {len(text.encode()):,} bytes; up to {_MOST_CARD:,} can be read again.")
    (folder / CARD).write_text(text, encoding="utf-8")


@contextmanager
def writing(target: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes `target`, with its manifest, when the block ends without an error.

    On an error (a full disk, an interrupt) the temporary folder goes and what was at `target` stays.
    Raises BundleError when `target` is something that the zoo did not write.
    """
    target = Path(target)
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield temporary
        write_manifest(temporary)
        temporary.chmod(0o755)
        publish(temporary, target)
    except OSError as error:
        raise BundleError(f"{target} could not be written ({error}); what was there before is untouched.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raises BundleError when `target` is something that the zoo did not write, before any work is done."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise BundleError(f"{target} is a file; give the name of a folder.")
    if any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise BundleError(f"{target} holds files that the zoo did not write; give another folder, or empty it first.")


def write_manifest(folder: Path) -> None:
    """Hash and sync every file of a folder into its manifest."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = {"sha256": sha256(path), "size": path.stat().st_size}
        _sync(path)
    (folder / MANIFEST).write_bytes(_canonical(files))
    _sync(folder / MANIFEST)
    _sync(folder)


def verify(path: str | Path) -> dict[str, Any]:
    """Check every byte of a folder of the zoo against its manifest.

    Returns the manifest's files: name -> {"sha256", "size"}. Raises BundleError that names the first
    file that is missing, changed, unknown, or leads out of the folder.
    """
    folder = Path(path)
    files = _read_manifest(folder)
    for name, entry in files.items():
        _check(folder, name, entry)
    _check_nothing_else(folder, {*files, MANIFEST})
    return files


def inside(folder: Path, name: str, *, most: int | None = None) -> Path:
    """A regular file of a folder, named from there. Raises BundleError for a file that is missing or of more than
    `most` bytes, and for a link: it leads to what was never checked, or lets it be changed afterwards from elsewhere.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or str(pure) != name:
        raise BundleError(f"{folder}: {name!r} leads out of the folder.")
    path = folder / name
    try:
        linked = path.resolve() != folder.resolve() / name
        found = path.lstat()
    # A name that the system can't have: too long, with a NUL or half a character.
    except (OSError, ValueError, RuntimeError):
        linked, found = False, None
    if linked or found is None or not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{folder}: {ascii(name)[1:-1]} is missing (or a link). Export or save it again.")
    if found.st_nlink > 1:
        raise BundleError(
            f"{folder}: {name} is a hard link: another name elsewhere can change it. Copy the folder, as with cp -r, "
            "and use the copy."
        )
    if found.st_size > _HOLE and getattr(found, "st_blocks", _HOLE) * 512 < found.st_size // 100:
        # Sparse: a few kilobytes on the disk would be hashed for hours.
        raise BundleError(f"{folder}: {name} is a hole of {found.st_size:,} bytes, with next to nothing in it.")
    if most is not None and found.st_size > most:
        raise BundleError(f"{folder}: {name} has {found.st_size:,} bytes; up to {most:,} are read.")
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not os.path.lexists(folder / MANIFEST):
        raise BundleError(f"{folder} has no {MANIFEST}: it is no folder of the zoo, or only a part of one.")
    path = inside(folder, MANIFEST, most=_MOST_MANIFEST)
    content = path.read_bytes()
    try:
        files = load_json(content)["files"]
        # A byte changed in white space would still parse: only the one spelling we write is accepted.
        canonical = _canonical(files)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if canonical != content or not isinstance(files, dict):
        raise BundleError(f"{path} is damaged: it is not what this library writes.")
    return files


def _canonical(files: Any) -> bytes:
    text = json.dumps({"format": FORMAT, "files": files}, indent=1, sort_keys=True, ensure_ascii=True)
    return f"{text}\n".encode()


def _check(folder: Path, name: str, entry: Any) -> None:
    path = inside(folder, name)
    if not isinstance(entry, dict) or set(entry) != {"sha256", "size"}:
        raise BundleError(f"{folder}: the manifest's entry for {name} is damaged.")
    if path.stat().st_size != entry["size"] or sha256(path) != entry["sha256"]:
        raise BundleError(f"{folder}: {name} is not the file that was written: its bytes have changed.")


def _check_nothing_else(folder: Path, known: set[str]) -> None:
    """Not even an empty folder: what is in none of the manifest's is not gone through."""
    parents = {str(parent) for name in known for parent in PurePosixPath(name).parents}
    for place in sorted(parents):
        for item in sorted(os.scandir(folder / place), key=lambda item: item.name):
            name = (PurePosixPath(place) / item.name).as_posix()
            fits = name in parents if item.is_dir(follow_symlinks=False) else name in known
            if item.is_symlink() or not fits:
                raise BundleError(f"{folder}: {ascii(name)[1:-1]} is not in the manifest. Export or save it again.")


def publish(temporary: Path, target: Path) -> None:
    """Rename a finished folder to its place, in one step for a reader; what was there before goes."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
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
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
