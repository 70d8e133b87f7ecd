"""One ONNX Runtime session, on the device that was asked for or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, final

import numpy as np

from zoo.errors import BundleError, ConfigError, DeviceError, missing
from zoo.manifest import DRAFT
from zoo.runtime.graphs import check_graph
from zoo.runtime.successor import Successor

if TYPE_CHECKING:
    from zoo.bundle import TensorSpec
    from zoo.modalities.base import Array

Device = Literal["cpu", "cuda"]
_CPU = "CPUExecutionProvider"
# Bytes of a graph and its weights: below this they are laid out in some milliseconds.
_LARGE = 1 << 25
_STAMPED = (".onnx", ".data", ".bin")
_DTYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(uint8)": "uint8",
}  # fmt: skip


class How(TypedDict, total=False):
    """How a session is opened: as `zoo.runtime.load` has it."""

    device: Device | Literal["auto"]
    fallback: bool
    threads: int | None
    spin: bool
    packed: bool


class Session:
    """`run` of named arrays. `device` is where it really runs; `inputs` maps names to dtypes.

    packed: whether large weights are laid out for the CPU's kernels when the session is opened, which takes twice as
    long as all else. Without it `run` does that again and again, until a second session that has them so takes over.
    """

    def __init__(
        self,
        graph: Path,
        *,
        device: Device | Literal["auto"] = "cpu",
        fallback: bool = False,
        threads: int | None = None,
        spin: bool = True,
        packed: bool = True,
    ) -> None:
        if device not in ("cpu", "cuda", "auto"):
            raise ConfigError(f'device is {device!r}; a bundle runs on "cpu", "cuda" or "auto".')
        self.graph = graph
        self._opened = opened = _stamps(graph)
        ort = _onnxruntime()
        size = check_graph(graph)
        providers = _providers(ort, device, fallback=fallback or device == "auto")
        unpacked = not packed and size >= _LARGE and providers == [_CPU]
        # Two graphs that take turns: threads of one that wait for work would have the cores of the other.
        rests = (graph.parent / DRAFT).is_file()

        def again(options: Any) -> Any:
            # Before, for what was never checked is not opened; and after, for what came in between does not answer.
            _check_same(graph, opened)
            session = _open(ort, graph, options, providers)
            _check_same(graph, opened)
            return session

        self._session = _open(
            ort, graph, _options(ort, threads=threads, spin=spin, rests=rests, unpacked=unpacked), providers
        )
        # ONNX Runtime falls back to the CPU without an error when CUDA's libraries don't load.
        if device == "cuda" and not fallback and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(_no_cuda("ONNX Runtime could not load its CUDA provider"))
        self._successor = (
            Successor(self, again, _options(ort, threads=threads, spin=spin, rests=rests)) if unpacked else None
        )
        active = self._session.get_providers()
        self.device: Device = "cuda" if active and active[0] == "CUDAExecutionProvider" else "cpu"
        self.threads = threads or cores()
        # A process that has other work to do has no memory for a second copy of the weights, either.
        self.splits = self.device == "cpu" and self.threads > 1 and spin
        self.inputs = {item.name: _DTYPES.get(item.type, item.type) for item in self._session.get_inputs()}
        self.outputs = [item.name for item in self._session.get_outputs()]
        self._opening = Lock()
        self._twin: Session | None = None
        self._promised: tuple[TensorSpec, ...] = ()

    def split(self) -> Session:
        """The same graph for as many callers at a time as this one has threads, each in a thread of its own.

        Better at many batches than all threads at one, and worse at a single batch. Opened once, and kept. The session
        itself where another graph lies in its place by now.
        """
        with self._opening:
            if self._twin is None and _stamps(self.graph) == self._opened:
                twin = Session(self.graph, device="cpu", threads=1)
                twin._promised = self._promised
                self._twin = twin
        return self._twin or self

    def lay_out(self) -> None:
        """Begin with what `packed` says, whatever was asked so far."""
        successor = self._successor
        if successor is not None:
            successor.begin()

    @property
    def packed(self) -> bool:
        """Whether its weights are laid out for speed by now."""
        return self._successor is None

    def promise(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        """Hold the graph to what its card says. Raises BundleError where it takes or gives other arrays; what it
        gives is compared again whenever it is run."""
        stated = {item.name: item.dtype for item in inputs}
        if stated != self.inputs:
            raise BundleError(f"{self.graph}: the graph takes {self.inputs}, and its card says {stated}.")
        names = [item.name for item in outputs]
        if sorted(names) != sorted(self.outputs):
            raise BundleError(f"{self.graph}: the graph gives {self.outputs}, and its card says {names}.")
        self._promised = outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays `[B, ...]` in, arrays `[B, ...]` out, by name."""
        self._check_given(inputs)
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}
        try:
            found = self._now().run(None, feed)
        except Exception as error:  # As in `_open`.
            raise BundleError(f"{self.graph} can't be run on this input: {error}") from error
        return self._kept(dict(zip(self.outputs, found, strict=True)), feed)

    def run_held(self, inputs: Mapping[str, Any], held: Mapping[str, str]) -> tuple[dict[str, Array], dict[str, Any]]:
        """As `run`, with arrays that stay where the session computes.

        inputs: arrays, or what an earlier run held. held: outputs to keep on the device, and the name that each is to
        be held by. Returns the other outputs as arrays, and the held ones.
        """
        self._check_given(inputs)
        session = self._now()
        binding = session.io_binding()
        try:
            for name in self.inputs:
                value = inputs[name]
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
                else:
                    binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(name, self.device if name in held else "cpu")
            session.run_with_iobinding(binding)
        except Exception as error:  # As in `_open`.
            raise BundleError(f"{self.graph} can't be run on this input: {error}") from error
        found = dict(zip(self.outputs, binding.get_outputs(), strict=True))
        arrays = {name: value.numpy() for name, value in found.items() if name not in held}
        return self._kept(arrays, inputs), {kept: found[name] for name, kept in held.items()}

    def take_over(self, session: Any) -> None:
        """Let another ONNX Runtime session of the same graph answer from now on, and the one until now go."""
        self._session, self._successor = session, None

    def _now(self) -> Any:
        # The successor may take over in between: whichever is read here stays until it has answered.
        session, successor = self._session, self._successor
        if successor is not None:
            successor.asked()
        return session

    def _check_given(self, inputs: Mapping[str, Any]) -> None:
        missing_ones = [name for name in self.inputs if name not in inputs]
        if missing_ones:
            raise BundleError(f"{self.graph} takes {', '.join(missing_ones)}, which its model's inputs do not have.")

    def _kept(self, made: dict[str, Array], feed: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs, if they are those that were promised. Raises BundleError."""
        arrays = (feed[name] for name in self.inputs)
        rows = next((len(array) for array in arrays if isinstance(array, np.ndarray) and array.ndim), 0)
        for item in self._promised:
            if item.name in made and not _fits(made[item.name], item, rows):
                raise BundleError(
                    f"{self.graph} gave {item.name} {_shown(made[item.name])} for {rows} rows, and its card says "
                    f"{item.dtype} [{', '.join(map(str, item.shape))}]."
                )
        return made


@final
class Ahead:
    """A session that is opened while its caller does something else, on a thread of its own."""

    def __init__(self, graph: Path, **how: Unpack[How]) -> None:
        self.graph = graph
        self._made: Session | None = None
        self._error: Exception | None = None
        # No daemon: a process that ends sooner waits for ONNX Runtime, which would crash in its midst.
        self._thread = Thread(target=self._work, kwargs=how, name="zoo-opening")
        self._thread.start()

    def session(self) -> Session:
        """When it is open. Raises what opening it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made

    def _work(self, **how: Unpack[How]) -> None:
        try:
            self._made = Session(self.graph, **how)
        except Exception as error:  # To be raised where it is waited for.
            self._error = error


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stamps(graph: Path) -> dict[str, tuple[int, int, int]]:
    """What tells the graphs and weights of a folder from others of their names; empty where there is no folder."""
    try:
        found = [(item.name, item.stat()) for item in os.scandir(graph.parent) if item.name.endswith(_STAMPED)]
    except OSError:
        return {}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found}


def _check_same(graph: Path, opened: dict[str, tuple[int, int, int]]) -> None:
    if _stamps(graph) != opened:
        raise BundleError(f"{graph} is not the one that was opened: another lies in its place.")


def _fits(array: Any, promised: TensorSpec, rows: int) -> bool:
    """Whether an output is of the dtype and the sides that its card says; named ones but the batch may be any."""
    shape = getattr(array, "shape", None)
    if shape is None or str(array.dtype) != promised.dtype or len(shape) != len(promised.shape):
        return False
    said = [rows if side == "batch" else side for side in promised.shape]
    return all(isinstance(side, str) or side == size for side, size in zip(said, shape, strict=True))


def _shown(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}" if hasattr(array, "shape") else type(array).__name__


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime", "cpu", "Running a bundle") from error
    return onnxruntime


def _options(ort: Any, *, threads: int | None, spin: bool, rests: bool, unpacked: bool = False) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    elif rests:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if unpacked:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _open(ort: Any, graph: Path, options: Any, providers: list[str]) -> Any:
    try:
        return ort.InferenceSession(str(graph), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no public base class.
        raise BundleError(f"{graph} can't be opened by ONNX Runtime {ort.__version__}: {error}") from error


def _providers(ort: Any, device: str, *, fallback: bool) -> list[str]:
    return ["CUDAExecutionProvider", _CPU] if device != "cpu" and _cuda(ort, fallback) else [_CPU]


def _cuda(ort: Any, fallback: bool) -> bool:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        if fallback:
            return False
        raise DeviceError(_no_cuda("this ONNX Runtime has no CUDA provider"))
    # Finds the CUDA and cuDNN libraries of the nvidia packages, which are on no loader's path.
    ort.preload_dlls()
    return True


def _no_cuda(reason: str) -> str:
    return (
        f'device="cuda" was asked for, but {reason}. Install it with: pip install "polyzoo[gpu]" (and no onnxruntime '
        'beside it; `zoo doctor` checks), or pass device="cpu" or fallback=True.'
    )
