"""Checkpoints on disk: reading them without running them, and fitting them into a network."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import hub
from zoo.errors import SpecError, UnsafeWeights, WeightsUnavailable
from zoo.plain import load_json

State = dict[str, Tensor]

# What a checkpoint may be called, in the order of preference.
NAMES = hub.WEIGHT_FILES
# Training scripts wrap the tensors in one of these, beside their optimizer's.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")


def find_state(folder: Path) -> Path:
    """The checkpoint of a folder. Raises WeightsUnavailable that lists what would have been taken."""
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsUnavailable(f"{folder} holds no weights: none of {', '.join(NAMES)} is there.")


def read_state(path: str | Path, *, sha256: str | None = None) -> State:
    """The tensors of a checkpoint by name, on the CPU, in the dtype they were stored in.

    path: a `.safetensors` file, the `.index.json` of a sharded one, a folder with either, or a pickle
        of tensors alone (`.pth`, `.pt`, `.bin`), which is read without running anything in it.
    Raises WeightsUnavailable (absent, damaged, other bytes than `sha256` says) or UnsafeWeights.
    """
    path = Path(path)
    if path.is_dir():
        path = find_state(path)
    if not path.is_file():
        raise WeightsUnavailable(f"There are no weights at {path}: the file does not exist.")
    check_sha256(path, sha256)
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Tensors to a `.safetensors` file, each once: it refuses shared memory, and loading ties second names again."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    unique: State = {}
    for name, tensor in state.items():
        if tensor.numel() and tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        unique[name] = tensor.detach().cpu().contiguous()
    save_file(unique, path, metadata={"format": "pt"})


def check_sha256(path: Path, expected: str | None) -> None:
    """Raises WeightsUnavailable when the file's bytes are not the expected ones. None expects nothing."""
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise WeightsUnavailable(
            f"{path} is damaged, or not the file the spec means: its sha256 is {found}, not {expected}. "
            "Delete it and fetch it again."
        )


def _read_shards(index: Path) -> State:
    state: State = {}
    try:
        names = sorted(set(load_json(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsUnavailable(f"{index} is not the index of a sharded checkpoint: {error!r}.") from error
    for name in names:
        # The index comes with the weights: it may only name files beside itself.
        if not isinstance(name, str) or not name.endswith((".safetensors", ".bin")) or Path(name).name != name:
            raise UnsafeWeights(f"{index} names a shard outside its own folder: {name!r}. It was not read.")
        state.update(read_state(index.parent / name))
    return state


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsUnavailable(f"{path} is damaged, or no safetensors file: {error}. Fetch it again.") from error


def _read_pickle(path: Path) -> State:
    try:
        with warnings.catch_warnings():
            # A remark on the pickle's protocol, which is the file's writer's business.
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _is_pickle(path):
            raise WeightsUnavailable(f"{path} is damaged, or no checkpoint: {_first_line(error)}") from error
        raise UnsafeWeights(
            f"{path} is a pickle that holds more than tensors, and reading it could run code; it was not read. "
            "Convert it where you trust it: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsUnavailable(f"{path} is damaged, or no checkpoint: {_first_line(error)}") from error
    return unwrap(found, where=str(path))


def _is_pickle(path: Path) -> bool:
    # A pickle of protocol 2 or later starts with 0x80; torch's newer files are zip archives of one.
    with path.open("rb") as file:
        start = file.read(2)
    return start[:1] == b"\x80" or start == b"PK"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unwrap(found: Any, *, where: str) -> State:
    """The tensors of what a training script saved: out of its wrapper, without DistributedDataParallel's prefix."""
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping):
        raise SpecError(f"{where} holds a {type(found).__name__}, not tensors by name.")
    state = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if not state:
        raise SpecError(f"{where} holds no tensors; its keys are {_some(map(str, found))}.")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def load_into(net: nn.Module, state: Mapping[str, Tensor], *, is_head: Callable[[str], bool], where: str) -> bool:
    """Fit a checkpoint into `net`; whether its head is fresh, because the checkpoint's is absent or of another shape.

    Raises SpecError when the body is not completely there, or the checkpoint is of a larger network.
    """
    own = net.state_dict()
    fits = {key: tensor for key, tensor in state.items() if key in own and tensor.shape == own[key].shape}
    absent = [key for key in own if key not in fits]
    # Old checkpoints lack the counters of batch norm; nothing that is computed depends on them.
    body = [key for key in absent if not is_head(key) and not key.endswith("num_batches_tracked")]
    missing = [key for key in body if key not in state]
    differing = {key: (state[key].shape, own[key].shape) for key in body if key in state}
    extra = [key for key in state if key not in own and not is_head(key)]
    check_fit(where, missing=missing, differing=differing, extra=extra)
    net.load_state_dict(fits, strict=False)
    return any(is_head(key) for key in absent)


def check_fit(
    where: str, *, missing: Iterable[str], differing: Mapping[str, tuple[Any, Any]], extra: Iterable[str]
) -> None:
    """Raises one SpecError that names what a checkpoint lacks, has in another shape, or has too much."""
    missing, extra = sorted(missing), sorted(extra)
    shapes = [f"{key} is {list(came)}, not {list(wanted)}" for key, (came, wanted) in sorted(differing.items())]
    faults = [
        f"  {title} ({len(keys)}): {_some(keys)}"
        for title, keys in (("missing", missing), ("of another shape", shapes), ("of another network", extra))
        if keys
    ]
    if faults:
        raise SpecError(f"The weights are not those of {where}:\n" + "\n".join(faults))


def _some(keys: Iterable[str], most: int = 5) -> str:
    keys = list(keys)
    return ", ".join(keys[:most]) + (f", and {len(keys) - most} more" if len(keys) > most else "")
