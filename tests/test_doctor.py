"""The doctor: each known trap, simulated as facts, and the collecting of real ones."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from zoo import doctor
from zoo.doctor import Facts, Finding, Level, Needed, TorchCuda
from zoo.doctor import facts as collecting

NEEDED = (
    Needed("numpy", ">=2.0"),
    Needed("torch", "<2.12,>=2.11", "train"),
    Needed("torchaudio", "<2.12,>=2.11", "train"),
    Needed("torchvision", "<0.27,>=0.26", "train"),
    Needed("transformers", "<6,>=5.23", "train"),
    Needed("peft", ">=0.21", "train"),
)
HEALTHY = Facts(
    python="3.11.9",
    system="linux-x86_64",
    packages={
        "numpy": "2.4.6",
        "onnxruntime-gpu": "1.31.1",
        "peft": "0.21.2",
        "torch": "2.11.0",
        "torchaudio": "2.11.0",
        "torchvision": "0.26.0",
        "transformers": "5.23.0",
    },
    needed=NEEDED,
    imports={"torch": "", "torchvision": "", "numpy": ""},
    driver="580.65.06",
    torch_cuda=TorchCuda("13.0", True),
    cuda_provider="",
)


def with_packages(**versions: str | None) -> Facts:
    """The healthy facts with other versions; None takes a package away. Underscores stand for hyphens."""
    packages = {**HEALTHY.packages, **{name.replace("_", "-"): version for name, version in versions.items()}}
    return dataclasses.replace(HEALTHY, packages={name: v for name, v in packages.items() if v is not None})


def only(facts: Facts) -> Finding:
    (finding,) = doctor.diagnose(facts)
    return finding


def test_a_healthy_installation_has_no_findings() -> None:
    assert doctor.diagnose(HEALTHY) == []


def test_an_old_python() -> None:
    finding = only(dataclasses.replace(HEALTHY, python="3.10.14"))
    assert finding.level is Level.error
    assert "3.10.14" in finding.what


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [("torch", "2.10.0", "CVE-2026-24747"), ("transformers", "5.1.0", "CVE-2026-5241"), ("transformers", "6.0.0", "")],
)
def test_versions_outside_the_range(name: str, version: str, reason: str) -> None:
    found = [
        f for f in doctor.diagnose(with_packages(**{name: version})) if f.what.startswith(f"{name} {version} is inst")
    ]
    (finding,) = found
    assert finding.level is Level.error
    assert reason in finding.why
    assert finding.mend.startswith(f'pip install "{name}')


def test_a_base_package_that_is_absent_is_an_error_and_one_of_training_a_warning() -> None:
    assert only(with_packages(numpy=None)).level is Level.error
    finding = only(with_packages(peft=None))
    assert finding.level is Level.warning
    assert finding.mend == 'pip install "polyzoo[train]"'


def test_the_torch_free_half_alone_is_healthy() -> None:
    absent = dict.fromkeys(("torch", "torchvision", "torchaudio", "transformers", "peft"))
    facts = dataclasses.replace(with_packages(**absent), torch_cuda=None)
    assert only(facts).level is Level.note


def test_another_torch_than_torchvision_and_torchaudio_are_made_for() -> None:
    """What a plain, unpinned `pip install torch` does."""
    found = doctor.diagnose(with_packages(torch="2.13.0"))
    texts = [finding.what for finding in found if finding.level is Level.error]
    assert any("torchvision 0.26.0 is not made for torch 2.13.0, but torchvision 0.28 is" in text for text in texts)
    assert any("torchaudio 2.11.0 is not made for torch 2.13.0" in text for text in texts)
    assert all('"torchvision<0.27,>=0.26"' in f.mend for f in found if "is not made for" in f.what)


def test_without_a_gpu_it_says_what_the_processor_is_quick_in() -> None:
    facts = dataclasses.replace(HEALTHY, driver=None, instructions=("avx512_bf16", "avx512_vnni", "avx_vnni"))
    notes = doctor.diagnose(facts)
    assert [(note.level, note.what) for note in notes] == [
        (Level.note, "This processor multiplies in bfloat16 (avx512_bf16)."),
        (Level.note, "This processor multiplies in int8 (avx512_vnni, avx_vnni)."),
    ]
    assert 'precision="bf16"' in notes[0].why
    assert doctor.diagnose(dataclasses.replace(facts, driver="580.65.06")) == []
    assert doctor.diagnose(dataclasses.replace(facts, instructions=())) == []
    without = {name: version for name, version in facts.packages.items() if not name.startswith("torch")}
    served = dataclasses.replace(facts, packages=without, torch_cuda=None, needed=())
    assert [note.what for note in doctor.diagnose(served) if "multiplies" in note.what] == [notes[1].what]


@pytest.mark.skipif(sys.platform != "linux", reason="what a processor has is read from /proc")
def test_the_instructions_of_a_processor() -> None:
    said = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    known = {name for names in collecting.INSTRUCTIONS.values() for name in names}
    assert set(collecting.collect(imports=False).instructions) == said & known


@pytest.mark.parametrize(("torch", "torchvision"), [("2.11.0+cpu", "0.26.0"), ("2.11.0", "0.26.0+cpu")])
def test_a_cpu_build_beside_a_cuda_build(torch: str, torchvision: str) -> None:
    facts = with_packages(torch=torch, torchvision=torchvision, torchaudio=None)
    found = [f for f in doctor.diagnose(facts) if f.level is Level.error]
    (finding,) = found
    assert "CPU build" in finding.what
    assert "CUDA build" in finding.what
    assert "torchvision::nms" in finding.why


def test_builds_for_two_releases_of_cuda() -> None:
    facts = with_packages(torch="2.11.0+cu130", torchvision="0.26.0+cu126", torchaudio="2.11.0+cu130")
    assert "cu126" in only(facts).what


@pytest.mark.parametrize("torch", ["2.11.0+cu130", "2.11.0"])
def test_tagged_and_untagged_cuda_builds_may_stand_together(torch: str) -> None:
    assert doctor.diagnose(with_packages(torch=torch, torchvision="0.26.0+cu130")) == []


def test_untagged_builds_are_for_the_cpu_where_there_is_no_cuda() -> None:
    facts = dataclasses.replace(with_packages(torch="2.11.0+cpu"), system="darwin-arm64", driver=None)
    assert doctor.diagnose(facts) == []


def test_both_runtimes() -> None:
    finding = only(with_packages(onnxruntime="1.31.1"))
    assert finding.level is Level.error
    assert finding.mend.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_no_runtime() -> None:
    finding = only(dataclasses.replace(with_packages(onnxruntime_gpu=None), cuda_provider=None))
    assert finding.level is Level.warning
    assert finding.mend == 'pip install "polyzoo[cpu]"'


def test_a_package_that_can_not_be_imported() -> None:
    error = "RuntimeError: operator torchvision::nms does not exist"
    finding = only(dataclasses.replace(HEALTHY, imports={"torch": "", "torchvision": error}))
    assert finding.level is Level.error
    assert finding.why == error
    assert finding.mend.startswith("pip install --force-reinstall")


def test_the_package_of_a_module_is_named_as_pip_knows_it() -> None:
    packages = {**HEALTHY.packages, "scikit-learn": "1.9.1"}
    facts = dataclasses.replace(
        HEALTHY, packages=packages, imports={"sklearn": "ImportError: x", "onnxruntime": "E: y"}
    )
    assert [f.what.split()[0] for f in doctor.diagnose(facts)] == ["scikit-learn", "onnxruntime-gpu"]


CPU_TORCH = TorchCuda(None, False)
NO_DEVICE = TorchCuda("13.0", False, "RuntimeError: CUDA unknown error")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"torch_cuda": CPU_TORCH}, "a build without it"),
        ({"torch_cuda": NO_DEVICE, "driver": "550.54.14"}, "driver 550.54.14 is older than 580"),
        ({"torch_cuda": NO_DEVICE, "environment": {"CUDA_VISIBLE_DEVICES": ""}}, "hides every GPU"),
        ({"torch_cuda": NO_DEVICE}, "though the driver is there"),
        ({"cuda_provider": "its CUDA provider does not load"}, "ONNX Runtime can't use CUDA"),
    ],
)
def test_a_gpu_that_is_there_and_not_used_is_a_warning_and_an_error_when_asked_for(
    changes: dict[str, object], words: str
) -> None:
    facts = dataclasses.replace(HEALTHY, **changes)  # type: ignore[arg-type]
    finding = only(facts)
    assert words in finding.what
    assert finding.level is Level.warning
    assert finding.mend
    asked = dataclasses.replace(facts, environment={**facts.environment, "ZOO_DEVICE": "cuda:0"})
    assert only(asked).level is Level.error


def test_a_gpu_asked_for_where_there_is_none_is_one_error() -> None:
    facts = dataclasses.replace(
        HEALTHY, driver=None, torch_cuda=NO_DEVICE, cuda_provider="no", environment={"ZOO_DEVICE": "cuda"}
    )
    finding = only(facts)
    assert finding.level is Level.error
    assert "no NVIDIA driver" in finding.what


def test_no_gpu_and_none_asked_for_is_healthy() -> None:
    facts = dataclasses.replace(HEALTHY, driver=None, torch_cuda=TorchCuda("13.0", False), cuda_provider=None)
    assert doctor.diagnose(facts) == []


@pytest.mark.parametrize(
    ("environment", "level", "words"),
    [
        ({"HF_HUB_OFFLINE": "1"}, Level.note, "only the cache is used"),
        ({"TRANSFORMERS_OFFLINE": "yes"}, Level.note, "TRANSFORMERS_OFFLINE is set"),
        ({"HF_ENDPOINT": "https://mirror.example"}, Level.note, "https://mirror.example"),
        ({"HF_ENDPOINT": "mirror.example"}, Level.error, "is no address"),
        ({"PYTHONDONTWRITEBYTECODE": "1"}, Level.note, "slower"),
    ],
)
def test_the_environment(environment: dict[str, str], level: Level, words: str) -> None:
    finding = only(dataclasses.replace(HEALTHY, environment=environment))
    assert finding.level is level
    assert words in finding.what


def test_offline_zero_is_online() -> None:
    assert doctor.diagnose(dataclasses.replace(HEALTHY, environment={"HF_HUB_OFFLINE": "0"})) == []


def test_a_cache_that_can_not_be_written() -> None:
    assert only(dataclasses.replace(HEALTHY, cache_writable=False)).level is Level.warning


def test_errors_come_first() -> None:
    facts = dataclasses.replace(with_packages(onnxruntime="1.31.1", peft=None), environment={"HF_HUB_OFFLINE": "1"})
    levels = [finding.level for finding in doctor.diagnose(facts)]
    assert levels == [Level.error, Level.warning, Level.note]


def test_facts_of_this_machine_without_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "yet"))
    found = doctor.collect(imports=False)
    assert found.packages["torch"].startswith("2.")
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.imports == {}
    assert found.environment["HF_HUB_OFFLINE"] == "1"
    assert found.cache_writable


def test_requirements_come_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy>=2.0",
        'torch<2.12,>=2.11; extra == "train"',
        'polyzoo[train]; extra == "all"',
        'onnxruntime>=1.23; extra == "cpu"',
        'pytest>=9; extra == "test"',
    ]
    monkeypatch.setattr(collecting.metadata, "requires", lambda name: lines)
    found = doctor.collect(imports=False).needed
    assert [(item.name, item.extra) for item in found] == [("numpy", ""), ("torch", "train")]
    assert found[1].versions == "<2.12,>=2.11"


def test_without_metadata_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise collecting.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(collecting.metadata, "requires", absent)
    facts = doctor.collect(imports=False)
    assert facts.needed == ()
    assert any("not installed, only importable" in finding.what for finding in doctor.diagnose(facts))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that the probe's process can import."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "whole_one.py").write_text("")
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('operator torchvision::nms does not exist\\nmore')")
    (tmp_path / "deadly_one.py").write_text("import os; os._exit(11)")
    (tmp_path / "slow_one.py").write_text("import time; time.sleep(60)")
    return tmp_path


def probed(*names: str) -> Facts:
    return collecting._probed(Facts("3.11.9", "linux-x86_64", dict.fromkeys(names, "1.0")))


@pytest.mark.usefixtures("packages")
def test_imports_are_tried_in_a_process_of_their_own() -> None:
    found = probed("broken-one", "deadly-one", "whole-one")
    assert found.imports["broken_one"] == "RuntimeError: operator torchvision::nms does not exist"
    # It ended the process, so what comes after it was never tried.
    assert found.imports["deadly_one"] == "the process ended with code 11"
    assert "whole_one" not in found.imports
    assert probed("whole-one").imports == {"whole_one": ""}


@pytest.mark.usefixtures("packages")
def test_an_import_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_TIMEOUT", 3.0)
    assert probed("slow-one").imports == {"slow_one": "no answer within 3 seconds"}


def test_the_probe_of_cuda_says_why_a_provider_does_not_load() -> None:
    """Over the module's own functions, with a runtime that falls back as ONNX Runtime does."""
    ort = pytest.importorskip("onnxruntime")
    from zoo.doctor import probe

    session = ort.InferenceSession(probe._GRAPH, providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["x"]

    class Silent:
        SessionOptions = ort.SessionOptions
        get_available_providers = staticmethod(lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
        preload_dlls = staticmethod(lambda: None)
        InferenceSession = staticmethod(lambda graph, options, providers: session)

    assert "without a word" in probe.provider_error(Silent)

    class CpuOnly:
        get_available_providers = staticmethod(lambda: ["CPUExecutionProvider"])

    assert "has no CUDA provider" in probe.provider_error(CpuOnly)
