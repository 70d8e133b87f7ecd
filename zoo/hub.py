"""The only client of the model hub: files by repository and name, cached, and one message for every failure.

huggingface_hub is imported when something is asked for, and reads HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and
HF_TOKEN at that moment; setting them later in a process has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import WeightsUnavailable
from zoo.plain import load_json
from zoo.spec import ModelSpec, Weights

# What a tokenizer may be made of; tokenizer.json alone suffices where it exists.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "target_vocab.json",
)
_SHARD_INDEX = ".index.json"
# In the order of preference: what can't run code first, whole before sharded.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of the hub on this machine, and the commit it is of."""

    path: Path
    revision: str


def fetch(repo: str, file: str, *, revision: str | None = None) -> Fetched:
    """One file from the cache, or from the hub into it; a download whose connection breaks goes on where it stopped.

    revision: a commit, tag or branch; the repository's main branch when None.
    Raises WeightsUnavailable that says what was asked of which hub, and what can be done.
    """
    with _explained(repo, file, revision):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(repo, file, revision=revision))
    return Fetched(path, _commit(path, file))


def find(repo: str, names: Sequence[str], *, revision: str | None = None) -> Fetched | None:
    """The first of these files that the repository has, or None.

    Offline, a file that is not in the cache counts as absent. The cache also remembers what a commit does not have.
    """
    for name in names:
        if _known_absent(repo, name, revision):
            continue
        try:
            return fetch(repo, name, revision=revision)
        except WeightsUnavailable as error:
            if not _absent(error):
                raise
    return None


def exists(repo: str, file: str, *, revision: str | None = None) -> bool:
    """Whether the hub has the file; offline, whether the cache has it."""
    with _explained(repo, file, revision):
        from huggingface_hub import constants, file_exists, try_to_load_from_cache

        if constants.is_offline_mode():
            return isinstance(try_to_load_from_cache(repo, file, revision=revision), str)
        return bool(file_exists(repo, file, revision=revision))


def files(repo: str, *, revision: str | None = None) -> list[str]:
    """Names of a repository's files, sorted; offline, of those in the cache."""
    with _explained(repo, None, revision):
        from huggingface_hub import constants, list_repo_files, snapshot_download

        if not constants.is_offline_mode():
            return sorted(list_repo_files(repo, revision=revision))
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fetch_weights(weights: Weights) -> Fetched:
    """The file that a spec names; all shards beside it when it is the index of a sharded checkpoint.

    Repositories convert their pickles to safetensors some day: where the file is not there, and nothing says which
    bytes it must have, another of the usual names is taken.
    """
    others = WEIGHT_FILES if weights.file in WEIGHT_FILES and weights.sha256 is None else ()
    found = find(weights.repo, (weights.file, *others), revision=weights.revision) if others else None
    # Asked once more for what is missing, so that the message says what was asked of which hub.
    found = found or fetch(weights.repo, weights.file, revision=weights.revision)
    if found.path.name.endswith(_SHARD_INDEX):
        for name in _shards(found.path):
            fetch(weights.repo, name, revision=found.revision)
    return found


def pull(spec: ModelSpec) -> Path:
    """Everything that `zoo.load` needs of the hub for a spec, into the cache. Returns the folder of the snapshot."""
    if spec.weights is None:
        raise WeightsUnavailable(f"{spec.name} has no pretrained weights; weights=None builds random ones.")
    found = fetch_weights(spec.weights)
    if spec.modality == "text":
        for name in TOKENIZER_FILES:
            find(spec.weights.repo, (name,), revision=found.revision)
    return found.path.parent


def push(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Upload a folder as the newest commit of a repository, made if it is not there. Returns its address."""
    with _explained(repo, None, None, uploading=True):
        from huggingface_hub import HfApi

        api = HfApi()
        address = str(api.create_repo(repo, private=private, exist_ok=True))
        api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Upload a model of polyzoo")
    return address


def _commit(path: Path, file: str) -> str:
    """The cache keeps a file at `snapshots/<commit>/<file>`."""
    return path.parents[len(Path(file).parts) - 1].name


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(load_json(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsUnavailable(f"{index} is not the index of a sharded checkpoint: {error!r}.") from error


def _known_absent(repo: str, name: str, revision: str | None) -> bool:
    """Whether the hub once said that this commit has no such file: a commit never changes, a branch may."""
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        return False
    with _explained(repo, name, revision):
        from huggingface_hub import try_to_load_from_cache

        # A path when it is there, None when nothing is known, and a marker of its own when it is known not to be.
        found = try_to_load_from_cache(repo, name, revision=revision)
        return found is not None and not isinstance(found, str)


def _absent(error: WeightsUnavailable) -> bool:
    """Whether the hub answered that there is no such file, or the cache, offline, has none."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    cause = error.__cause__
    if isinstance(cause, RemoteEntryNotFoundError):
        return True
    return constants.is_offline_mode() and isinstance(cause, LocalEntryNotFoundError)


@contextmanager
def _explained(repo: str, file: str | None, revision: str | None, *, uploading: bool = False) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WeightsUnavailable(
            'The hub needs the package huggingface_hub. Install it with: pip install "polyzoo"'
        ) from error
    # The client lets errors of its HTTP library, of the file system and of its own through.
    except Exception as error:
        raise WeightsUnavailable(_message(repo, file, revision, error, uploading)) from error


def _message(repo: str, file: str | None, revision: str | None, error: Exception, uploading: bool) -> str:
    from huggingface_hub import constants

    asked = f"{file!r} of {repo!r}" if file else repr(repo)
    at = f" at {revision!r}" if revision else ""
    offline = " The hub is switched off by HF_HUB_OFFLINE=1." if constants.is_offline_mode() else ""
    head = f"{constants.ENDPOINT} was asked for {asked}{at}: {_reason(error)}{offline}"
    if uploading:
        return f"{constants.ENDPOINT} did not take {repo!r}: {_reason(error)}{offline} Log in with: hf auth login"
    return (
        f"{head}\n"
        "  With a connection, once: zoo pull NAME fetches it into the cache, which HF_HOME may move.\n"
        "  Through a mirror: set HF_ENDPOINT. A private or gated repository: hf auth login, or HF_TOKEN.\n"
        "  Without weights: give weights=None, which builds random ones."
    )


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    known = (
        (errors.GatedRepoError, "access to it has to be asked for on its page."),
        (errors.RevisionNotFoundError, "it has no such revision."),
        (errors.RepositoryNotFoundError, "there is no such repository, or it is private."),
        (errors.RemoteEntryNotFoundError, "the repository has no such file."),
        (errors.LocalEntryNotFoundError, "it is not in the cache, and the hub can't be reached."),
        (errors.OfflineModeIsEnabled, "it was not asked."),
    )
    for kind, reason in known:
        if isinstance(error, kind):
            return reason
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if text.endswith(".") else f"{text}."
