"""`manifest.json`: the size and sha256 of every other file of a folder, written and checked.

Beside it, where there are large files, `blake3.json` has the BLAKE3 of each 16 MiB of those: it takes less than half
the time of a sha256, and several threads can check them. It is a file like any other to readers that do not know it,
which check the sha256 of the whole.
It imports next to nothing, so that the weights of a bundle are hashed while NumPy and ONNX Runtime are imported.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, final

from blake3 import blake3

from zoo.errors import BundleError

MANIFEST, PIECES = "manifest.json", "blake3.json"
# All that is written about the other files, and for them anew: pieces had a sha256 each before.
OWN = (MANIFEST, PIECES, "pieces.json")
# Of a bundle: named here, where nothing has been imported yet, because one of them is opened first of all.
GRAPH, SHORTLIST, DRAFT = "model.onnx", "shortlist.onnx", "draft.onnx"
PIECE = 1 << 24  # bytes
_FORMAT = 1
# Far above any that we write: the hashes of a terabyte of weights have 4 MB.
_MOST_BYTES = 4 << 20
_HOLE = 1 << 30
# Weights beside a graph: nothing reads them but arithmetic, so they may be checked while the rest is opened.
_RAW = (".data", ".bin")
_MOST_THREADS = 8


def write(folder: Path) -> None:
    """Hash and sync every file of a folder into its manifest."""
    for name in OWN:
        (folder / name).unlink(missing_ok=True)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files, pieces = {}, {}
    for path in paths:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        # The pieces on other threads, while this one hashes the whole.
        hashing = _Hashing(_pieces(path, size)) if size > PIECE else None
        files[name] = _entry(path)
        if hashing is not None:
            pieces[name] = {"sha256": files[name]["sha256"], "blake3": hashing.wait()}
    if pieces:
        (folder / PIECES).write_bytes(_canonical(pieces))
        files[PIECES] = _entry(folder / PIECES)
    for name in files:
        sync(folder / name)
    (folder / MANIFEST).write_bytes(_canonical(files))
    sync(folder / MANIFEST)
    sync(folder)


def verify(path: str | Path) -> dict[str, Any]:
    """Check every byte of a folder of the zoo against its manifest.

    Returns the manifest's files: name -> {"sha256", "size"}. Raises BundleError that names a file that is missing,
    changed, unknown, or leads out of the folder.
    """
    return Checking(Path(path)).finish()


@final
class Checking:
    """A folder against its manifest. When this is made, all is checked but the bytes of large weights beside a graph:
    threads hash those until `finish`. Raises BundleError, as `verify`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = _read(folder, MANIFEST)
        for name, entry in self._files.items():
            _check_place(folder, name, entry)
        _check_nothing_else(folder, {*self._files, MANIFEST})
        self._large: dict[str, list[str]] = {}
        if PIECES in self._files:
            self._large = self._read_pieces()
        raw = [name for name in self._files if name.endswith(_RAW)]
        self._raw = self._begin(raw)
        self._end(self._begin([name for name in self._files if name not in raw]))

    def finish(self) -> dict[str, Any]:
        """Wait until every byte is checked. Returns the manifest's files."""
        self._end(self._raw)
        return self._files

    def _read_pieces(self) -> dict[str, list[str]]:
        """The hashes of the pieces of each large file."""
        self._end(self._begin([PIECES]))
        found = _read(self._folder, PIECES)
        for name, entry in found.items():
            known = self._files.get(name)
            fits = isinstance(entry, dict) and set(entry) == {"sha256", "blake3"} and isinstance(entry["blake3"], list)
            # Hashed by pieces alone, its hash in the manifest is still held to what it was.
            if not fits or known is None or known["sha256"] != entry["sha256"]:
                raise BundleError(f"{self._folder}: what {PIECES} has of {ascii(name)[1:-1]} is damaged.")
            if len(entry["blake3"]) != len(_pieces(self._folder / name, known["size"])):
                raise _changed(self._folder, name)
        return {name: entry["blake3"] for name, entry in found.items()}

    def _begin(self, names: Sequence[str]) -> tuple[list[str], _Hashing]:
        owners, parts = [], []
        for name in names:
            path, entry = self._folder / name, self._files[name]
            whole = _Part(path, 0, entry["size"], hashlib.sha256)
            found = _pieces(path, entry["size"]) if name in self._large else [whole]
            owners += [name] * len(found)
            parts += found
        return owners, _Hashing(parts)

    def _end(self, begun: tuple[list[str], _Hashing]) -> None:
        owners, hashing = begun
        found: dict[str, list[str]] = {}
        for name, digest in zip(owners, hashing.wait(), strict=True):
            found.setdefault(name, []).append(digest)
        for name, digests in found.items():
            if digests != self._large.get(name, [self._files[name]["sha256"]]):
                raise _changed(self._folder, name)


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


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ----------------------------------------------------------------------------------------------------- the manifest


def _read(folder: Path, name: str) -> dict[str, Any]:
    """The files that the manifest or `blake3.json` has entries of."""
    if not os.path.lexists(folder / name):
        raise BundleError(f"{folder} has no {name}: it is no folder of the zoo, or only a part of one.")
    path = inside(folder, name, most=_MOST_BYTES)
    content = path.read_bytes()
    try:
        files = json.loads(content)["files"]
        # A byte changed in white space would still parse: only the one spelling we write is accepted.
        canonical = _canonical(files)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    if canonical != content or not isinstance(files, dict):
        raise BundleError(f"{path} is damaged: it is not what this library writes.")
    return files


def _canonical(files: Any) -> bytes:
    text = json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True, ensure_ascii=True)
    return f"{text}\n".encode()


def _entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "size": path.stat().st_size}


def _check_place(folder: Path, name: str, entry: Any) -> None:
    """All but the file's bytes."""
    path = inside(folder, name)
    if not isinstance(entry, dict) or set(entry) != {"sha256", "size"}:
        raise BundleError(f"{folder}: the manifest's entry for {name} is damaged.")
    if path.stat().st_size != entry["size"]:
        raise _changed(folder, name)


def _check_nothing_else(folder: Path, known: set[str]) -> None:
    """Not even an empty folder: what is in none of the manifest's is not gone through."""
    parents = {str(parent) for name in known for parent in PurePosixPath(name).parents}
    for place in sorted(parents):
        for item in sorted(os.scandir(folder / place), key=lambda item: item.name):
            name = (PurePosixPath(place) / item.name).as_posix()
            fits = name in parents if item.is_dir(follow_symlinks=False) else name in known
            if item.is_symlink() or not fits:
                raise BundleError(f"{folder}: {ascii(name)[1:-1]} is not in the manifest. Export or save it again.")


def _changed(folder: Path, name: str) -> BundleError:
    return BundleError(f"{folder}: {name} is not the file that was written: its bytes have changed.")


# ------------------------------------------------------------------------------------------------------- the hashes


class _Part(NamedTuple):
    """`length` bytes of a file, from `offset` on, and what hashes them."""

    path: Path
    offset: int
    length: int
    algorithm: Callable[[memoryview], Any]


def _pieces(path: Path, size: int) -> list[_Part]:
    return [_Part(path, offset, min(PIECE, size - offset), blake3) for offset in range(0, size, PIECE)]


@final
class _Hashing:
    """The hashes of parts of files: on threads of its own, and on the caller's when that waits."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._left = deque(enumerate(parts))
        self._digests = [""] * len(parts)
        self._failure: OSError | None = None
        large = sum(part.length for part in parts) > PIECE
        # One core is the caller's. A daemon keeps no process from its end.
        count = min(max(_cores() - 1, 1), _MOST_THREADS, len(parts)) if large else 0
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wait(self) -> list[str]:
        """The hashes in the order of the parts. Raises BundleError where a file can't be read."""
        self._work()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise BundleError(f"{self._failure.filename or 'a file'} can't be read: {self._failure}")
        return self._digests

    def _work(self) -> None:
        path: Path | None = None
        content: mmap.mmap | bytes = b""
        while True:
            try:
                place, part = self._left.popleft()
            except IndexError:
                return
            try:
                if part.path != path:
                    path, content = part.path, _mapped(part.path)
                self._digests[place] = _hash(content, part)
            except OSError as error:
                self._failure = error
                self._left.clear()


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A file's bytes, in memory when they are looked at. Whatever else is done with a file takes a thread turns at the
    interpreter, of milliseconds each, while others import."""
    with path.open("rb", buffering=0) as file:
        try:
            # Private, because not every network's file system has anything to share.
            return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except ValueError:
            return b""  # What is empty can't be mapped.


def _hash(content: mmap.mmap | bytes, part: _Part) -> str:
    with memoryview(content)[part.offset : part.offset + part.length] as view:
        digest = str(part.algorithm(view).hexdigest())
    begin = part.offset - part.offset % mmap.PAGESIZE
    # Out of this process's memory again: all of the weights would count as its own. A file may have been cut off.
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") and begin < len(content):
        content.madvise(mmap.MADV_DONTNEED, begin, part.offset + part.length - begin)
    return digest


def _cores() -> int:
    # Those that this process may use; not every system can say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
