"""The known traps, each a pure function of the facts: what is wrong, why it matters, what mends it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from zoo.doctor.facts import INSTRUCTIONS, RUNTIMES, Facts, Needed

# CUDA 13 needs this driver or a newer one.
_CUDA_13_DRIVER = 580
_FAMILY = ("torch", "torchvision", "torchaudio")
_WHY = {
    "torch": "Versions before 2.11 have known vulnerabilities (CVE-2026-24747, CVE-2026-4538); torchaudio's last "
    "release is for 2.11.",
    "transformers": "Versions up to 5.2 have a known vulnerability (CVE-2026-5241), and this library speaks to "
    "transformers 5.",
}


class Level(StrEnum):
    error = "error"
    warning = "warning"
    note = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """what: is wrong. why: it matters. mend: a command, or empty when nothing needs to be done."""

    level: Level
    what: str
    why: str = ""
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        return dataclasses.asdict(self)


Check = Callable[[Facts], Iterator[Finding]]


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, errors first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def python_version(facts: Facts) -> Iterator[Finding]:
    if Version(facts.python) < Version("3.11"):
        yield Finding(
            Level.error,
            f"Python {facts.python} is too old.",
            "polyzoo and the versions it needs are for Python 3.11 and newer.",
            "python3.12 -m venv .venv",
        )


def own_metadata(facts: Facts) -> Iterator[Finding]:
    if not facts.needed:
        yield Finding(
            Level.warning,
            "polyzoo itself is not installed, only importable.",
            "What it needs can't be compared with what is there.",
            'pip install -e ".[all]"',
        )


def requirements(facts: Facts) -> Iterator[Finding]:
    """Packages that are absent or outside the versions that this library is for."""
    training = "torch" in facts.packages
    for needed in facts.needed:
        version = facts.packages.get(needed.name)
        if version is not None:
            yield from _wrong_version(needed, version)
        elif not needed.extra:
            yield Finding(
                Level.error, f"{needed.name} is not installed.", "Every part needs it.", "pip install polyzoo"
            )
        elif training:
            yield Finding(
                Level.warning,
                f"{needed.name} is not installed.",
                f"It belongs to the training half, polyzoo[{needed.extra}], and what needs it will say so.",
                f'pip install "polyzoo[{needed.extra}]"',
            )
    if facts.needed and not training:
        yield Finding(
            Level.note,
            "torch is not installed: bundles can answer; load, finetune, evaluate and export can't run.",
            mend='pip install "polyzoo[all]"',
        )


def _wrong_version(needed: Needed, version: str) -> Iterator[Finding]:
    if not SpecifierSet(needed.versions).contains(Version(version), prereleases=True):
        yield Finding(
            Level.error,
            f"{needed.name} {version} is installed, and {needed.versions} is needed.",
            _WHY.get(needed.name, "This library is written for, and tested with, the versions in that range."),
            f'pip install "{needed.name}{needed.versions}"',
        )


def torch_family(facts: Facts) -> Iterator[Finding]:
    """torch, torchvision and torchaudio are compiled for one another. Judged by their versions, without an import."""
    if "torch" not in facts.packages:
        return
    torch = Version(facts.packages["torch"])
    fitting = {"torchvision": f"0.{torch.minor + 15}", "torchaudio": f"{torch.major}.{torch.minor}"}
    for name, series in fitting.items():
        if name not in facts.packages:
            continue
        other = Version(facts.packages[name])
        if f"{other.major}.{other.minor}" != series:
            what = f"{name} {other} is not made for torch {torch}, but {name} {series} is."
        elif _build(other, facts) != _build(torch, facts):
            what = f"torch {torch} is a {_build(torch, facts)} build, {name} {other} a {_build(other, facts)} build."
        else:
            continue
        why = "They fail when they are imported or used (operator torchvision::nms does not exist; libc10_cuda.so), "
        yield Finding(Level.error, what, f"{why}and take parts of transformers and timm with them.", _reinstall(facts))


def _build(version: Version, facts: Facts) -> str:
    """What a build is for, as far as its version says: "CPU", "cu130", "rocm7.0".

    The package index's own has no tag; on Linux it is for CUDA, of the release that tagged ones beside it name.
    """
    if version.local is not None:
        return "CPU" if version.local.startswith("cpu") else version.local
    if not facts.system.startswith("linux"):
        return "CPU"
    tags = (Version(facts.packages[name]).local or "" for name in _FAMILY if name in facts.packages)
    return next((tag for tag in tags if tag.startswith("cu")), "CUDA")


def _reinstall(facts: Facts) -> str:
    versions = {item.name: item.versions for item in facts.needed}
    fallback = {"torch": "==2.11.*", "torchvision": "==0.26.*", "torchaudio": "==2.11.*"}
    return "pip install --force-reinstall " + " ".join(
        f'"{name}{versions.get(name, fallback[name])}"' for name in _FAMILY
    )


def runtimes(facts: Facts) -> Iterator[Finding]:
    """onnxruntime and onnxruntime-gpu install the same module."""
    found = [name for name in RUNTIMES if name in facts.packages]
    if len(found) == 2:
        yield Finding(
            Level.error,
            "onnxruntime and onnxruntime-gpu are both installed.",
            "They overwrite each other's files: which one answers, and whether on the GPU, is chance. Removing one "
            "breaks the other, so both have to go first.",
            'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "polyzoo[gpu]"',
        )
    if not found:
        yield Finding(
            Level.warning,
            "Neither onnxruntime nor onnxruntime-gpu is installed.",
            "Exported bundles can't be run, and so not be checked.",
            'pip install "polyzoo[cpu]"',
        )


def broken_imports(facts: Facts) -> Iterator[Finding]:
    for module, error in facts.imports.items():
        if not error:
            continue
        name = _distribution(module, facts)
        mend = (
            _reinstall(facts) if name in _FAMILY else f'pip install --force-reinstall "{name}{_versions(name, facts)}"'
        )
        yield Finding(Level.error, f"{name} is installed, but can't be imported.", error, mend)


def _distribution(module: str, facts: Facts) -> str:
    """The installed distribution that brings a module."""
    if module == "onnxruntime":
        return next((name for name in RUNTIMES if name in facts.packages), module)
    other = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn"}
    return other.get(module, module.replace("_", "-"))


def _versions(name: str, facts: Facts) -> str:
    return next((item.versions for item in facts.needed if item.name == name), "")


def driver(facts: Facts) -> Iterator[Finding]:
    """A GPU is asked for where there is none. A device that torch can use needs no further driver."""
    usable = facts.torch_cuda is not None and facts.torch_cuda.available
    if facts.cuda_asked and facts.driver is None and not usable:
        yield Finding(
            Level.error,
            f"ZOO_DEVICE={facts.environment['ZOO_DEVICE']} asks for a GPU, and there is no NVIDIA driver.",
            "Every command that takes a model would stop with a DeviceError.",
            "unset ZOO_DEVICE",
        )


def torch_on_cuda(facts: Facts) -> Iterator[Finding]:
    """A GPU is there, and torch can't use it."""
    found = facts.torch_cuda
    if found is None or found.available or facts.driver is None:
        return
    level = Level.error if facts.cuda_asked else Level.warning
    what = "torch can't use CUDA"
    hidden = facts.environment.get("CUDA_VISIBLE_DEVICES")
    if found.built is None:
        yield Finding(level, f"{what}: it is a build without it.", _slow(facts), _reinstall(facts))
    elif hidden is not None and hidden.strip() in ("", "-1"):
        yield Finding(
            level, f"{what}: CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU.", mend="unset CUDA_VISIBLE_DEVICES"
        )
    elif _old_driver(facts.driver, found.built):
        yield Finding(
            level,
            f"{what}: it is built for CUDA {found.built}, and driver {facts.driver} is older than {_CUDA_13_DRIVER}.",
            _slow(facts),
            f"Update NVIDIA's driver to {_CUDA_13_DRIVER} or newer.",
        )
    else:
        yield Finding(level, f"{what}, though the driver is there.", found.error or _slow(facts), "nvidia-smi")


def _slow(facts: Facts) -> str:
    return "ZOO_DEVICE asks for a GPU." if facts.cuda_asked else "There is a GPU, and all would run on the CPU instead."


def _old_driver(driver: str, built: str) -> bool:
    major = driver.split(".")[0]
    return built.startswith("13") and major.isdigit() and int(major) < _CUDA_13_DRIVER


def runtime_on_cuda(facts: Facts) -> Iterator[Finding]:
    """A GPU is there, and ONNX Runtime would go on with the CPU."""
    if not facts.cuda_provider or facts.driver is None:
        return
    gpu = "onnxruntime-gpu" in facts.packages
    yield Finding(
        Level.error if facts.cuda_asked else Level.warning,
        "ONNX Runtime can't use CUDA.",
        f"The reason: {facts.cuda_provider}. A bundle asked for on the GPU is refused.",
        'pip install --force-reinstall "onnxruntime-gpu[cuda,cudnn]"'
        if gpu
        else 'pip uninstall -y onnxruntime && pip install "polyzoo[gpu]"',
    )


def hub(facts: Facts) -> Iterator[Finding]:
    """What the environment says about the model hub."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if facts.environment.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            yield Finding(
                Level.note,
                f"{name} is set: nothing is fetched from the hub, only the cache is used.",
                mend=f"unset {name}; zoo pull NAME",
            )
    endpoint = facts.environment.get("HF_ENDPOINT")
    if endpoint and not endpoint.startswith(("https://", "http://")):
        yield Finding(
            Level.error,
            f"HF_ENDPOINT is {endpoint!r}, which is no address.",
            "Every download would fail.",
            "export HF_ENDPOINT=https://ADDRESS-OF-THE-MIRROR",
        )
    elif endpoint:
        yield Finding(Level.note, f"HF_ENDPOINT is set: weights are fetched from {endpoint}.")
    if not facts.cache_writable:
        yield Finding(
            Level.warning,
            "The hub's cache can't be written.",
            "Weights that are not in it can't be fetched.",
            "export HF_HOME=FOLDER-THAT-YOU-CAN-WRITE",
        )


def bytecode(facts: Facts) -> Iterator[Finding]:
    if facts.environment.get("PYTHONDONTWRITEBYTECODE"):
        yield Finding(
            Level.note,
            "PYTHONDONTWRITEBYTECODE is set: packages without compiled files start two to three times slower.",
            mend="unset PYTHONDONTWRITEBYTECODE",
        )


_LESS = {
    "bfloat16": 'precision="bf16" of zoo.load and of finetune takes torch about half the time of fp32.',
    "int8": 'A bundle of export(precision="int8") is mostly two to three times as quick as one in fp32; what it costs '
    "is measured on your data.",
}


def less_than_fp32(facts: Facts) -> Iterator[Finding]:
    """Without a GPU: what the processor multiplies in beside float32, because nothing takes it unasked."""
    if facts.driver is not None:
        return
    for number, why in _LESS.items():
        found = [name for name in INSTRUCTIONS[number] if name in facts.instructions]
        if found and ("torch" in facts.packages or number == "int8"):
            yield Finding(Level.note, f"This processor multiplies in {number} ({', '.join(found)}).", why)


CHECKS: tuple[Check, ...] = (
    python_version,
    own_metadata,
    requirements,
    torch_family,
    runtimes,
    broken_imports,
    driver,
    torch_on_cuda,
    runtime_on_cuda,
    hub,
    bytecode,
    less_than_fp32,
)
