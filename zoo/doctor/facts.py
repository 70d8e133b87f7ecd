"""What is installed and what works, read from metadata and tried in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "PYTHONDONTWRITEBYTECODE",
    "TRANSFORMERS_OFFLINE",
    "ZOO_DEVICE",
)
_MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn", "onnxruntime-gpu": "onnxruntime"}
_TIMEOUT = 300.0
# Instructions that multiply in less than float32, by what they multiply in, as Linux names them.
INSTRUCTIONS = {"bfloat16": ("amx_bf16", "avx512_bf16"), "int8": ("amx_int8", "avx512_vnni", "avx_vnni")}


@dataclass(frozen=True, slots=True)
class Needed:
    """A requirement of this library. extra: "" for the base, else the extra that brings it."""

    name: str
    versions: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class TorchCuda:
    """built: the CUDA version that torch was built for, None without. error: of using the device, when it was tried."""

    built: str | None
    available: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks judge.

    system: such as "linux-x86_64". packages: version by distribution, of those that matter here.
    imports: for each module that was tried, the error, empty when it could be imported.
    driver: the version of NVIDIA's driver, empty when it does not say, None without one.
    cuda_provider: why ONNX Runtime's CUDA provider can't be used, empty when it can, None when it was not tried.
    environment: the variables that matter here. cache_writable: whether the hub's cache can be written.
    instructions: those of `INSTRUCTIONS` that the processor has; none where the system does not say.
    """

    python: str
    system: str
    packages: Mapping[str, str]
    needed: tuple[Needed, ...] = ()
    imports: Mapping[str, str] = field(default_factory=dict)
    driver: str | None = None
    torch_cuda: TorchCuda | None = None
    cuda_provider: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cache_writable: bool = True
    instructions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def cuda_asked(self) -> bool:
        return self.environment.get("ZOO_DEVICE", "").startswith("cuda")


def collect(*, imports: bool = True) -> Facts:
    """The facts of this interpreter's environment. imports: whether to import packages, which may take a minute."""
    needed = tuple(_needed())
    facts = Facts(
        python=platform.python_version(),
        system=f"{sys.platform}-{platform.machine().lower()}",
        packages=_packages([item.name for item in needed]),
        needed=needed,
        driver=_driver(),
        environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
        cache_writable=_cache_writable(),
        instructions=_instructions(),
    )
    return _probed(facts) if imports else facts


def _needed() -> Iterator[Needed]:
    """The base's and the training half's requirements, from this library's own metadata: no list of them here."""
    try:
        lines = metadata.requires("polyzoo") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        found = Requirement(line)
        for extra in ("", "train"):
            if found.name != "polyzoo" and (found.marker is None or found.marker.evaluate({"extra": extra})):
                yield Needed(found.name, str(found.specifier), extra)
                break


def _packages(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in sorted({*names, *RUNTIMES, "torch", "torchvision", "torchaudio"}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _driver() -> str | None:
    file = Path("/proc/driver/nvidia/version")
    try:
        found = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", file.read_text())
        return found[1] if found else ""
    except OSError:
        return _driver_by_tool()


def _driver_by_tool() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else None


def _instructions() -> tuple[str, ...]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return tuple(name for names in INSTRUCTIONS.values() for name in names if name in flags)


def _cache_writable() -> bool:
    folder = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return os.access(existing, os.W_OK)


def _probed(facts: Facts) -> Facts:
    # torch first: packages built on it fail for its reasons, which are then its own.
    order = sorted(facts.packages, key=lambda name: (name != "torch", name not in ("torchvision", "torchaudio"), name))
    modules = list(dict.fromkeys(_MODULES.get(name, name.replace("-", "_")) for name in order))
    cuda = facts.cuda_asked or facts.driver is not None
    lines, ending = _run_probe(modules, cuda=cuda)
    imports = {line["import"]: line["error"] for line in lines if "import" in line}
    if len(imports) < len(modules):
        # They are tried in order: the first without an answer is the one that ended the process.
        imports[modules[len(imports)]] = ending
    return dataclasses.replace(
        facts,
        imports=imports,
        torch_cuda=next((TorchCuda(**line["torch"]) for line in lines if "torch" in line), None),
        cuda_provider=next((line["provider"] for line in lines if "provider" in line), None),
    )


def _run_probe(modules: Sequence[str], *, cuda: bool) -> tuple[list[dict[str, Any]], str]:
    """What the probe wrote, and how it ended."""
    script = Path(__file__).with_name("probe.py")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.jsonl"
        # -P: the script's own folder must not stand before the packages.
        command = [sys.executable, "-P", str(script), str(target), "cuda" if cuda else "cpu", *modules]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
            ending = f"the process ended with code {done.returncode}"
        except subprocess.TimeoutExpired:
            ending = f"no answer within {_TIMEOUT:.0f} seconds"
        text = target.read_text(encoding="utf-8") if target.exists() else ""
    return [json.loads(line) for line in text.splitlines()], ending
