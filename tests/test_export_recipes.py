"""The recipes of export/: the support table, and the container's file, as far as it runs without an engine."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.conformance.capabilities import METHODS

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ROOT / "export"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_catalogue", ROOT / "export" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up by name.
    sys.modules["export_catalogue"] = module
    spec.loader.exec_module(module)
    return module


def test_a_line_is_what_the_conformance_checks_found(recipe: ModuleType) -> None:
    row = recipe.one("resnet18", "image-classification")
    assert (row["agreement"], row["failure"], row["bf16"]) == (1.0, "", "yes")
    assert row["difference"] <= row["tolerance"]
    # A prefix is of attention, which a convolutional network has none of.
    assert {name for name, mark in row["methods"].items() if mark == "yes"} == set(METHODS) - {"prefix", "prompt"}
    line = recipe.table([row], {}).splitlines()[-1]
    assert line.startswith("| resnet18 | image-classification | ✓ | ✓ |")


def test_the_committed_table_is_of_its_figures_and_every_family_and_no_failure(recipe: ModuleType) -> None:
    found = json.loads(recipe.FIGURES.read_text(encoding="utf-8"))
    assert [(row["family"], row["task"]) for row in found["rows"]] == sorted(recipe.pairs()), (
        "run: python export/catalogue.py"
    )
    assert not any(row["failure"] for row in found["rows"])
    assert recipe.TABLE.read_text(encoding="utf-8") == recipe.table(found["rows"], found["versions"])


# ------------------------------------------------------------------------------- the container, and a cluster of them


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """The options of `zoo COMMAND ...`, as the command itself reads them. Raises where it would refuse them."""
    import typer

    from zoo.cli import app, fields
    from zoo.runtime.serve.settings import Limits

    command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    given = command.make_context(arguments[0], list(arguments[1:])).params
    limits = Limits(**fields.parsed(Limits, {name: given[name] for name in Limits.model_fields if name in given}))
    return {**given, **limits.model_dump()}


def routes() -> set[str]:
    from zoo.runtime.serve.gate import OPEN

    return set(OPEN)


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """(instruction, what follows it) of the container's file."""
    text = (EXPORT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]


def test_the_container_file_names_what_is_there_and_needs_no_torch(dockerfile: list[tuple[str, str]]) -> None:
    taken = [words.split() for name, words in dockerfile if name == "COPY" and not words.startswith("--from")]
    ignored = (EXPORT / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (name for names in taken for name in names[:-1]):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, f"{name} is kept out of the build"
    installed = [re.findall(r"/src\[([\w,]+)\]", words) for name, words in dockerfile if name == "RUN"]
    assert installed == [["cpu,serve"]]


def test_the_container_serves_as_a_user_without_rights(dockerfile: list[tuple[str, str]]) -> None:
    said = dict(dockerfile)
    user, group = said["USER"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(said["ENTRYPOINT"]) == ["zoo"]
    options = parsed(json.loads(said["CMD"]))
    assert (options["host"], options["port"]) == ("0.0.0.0", int(said["EXPOSE"]))
    assert options["token_file"], "what others can reach needs a token"
    code = json.loads(said["HEALTHCHECK"].partition("CMD")[2])[2]
    compile(code, "HEALTHCHECK", "exec")
    (port, path) = re.findall(r"127\.0\.0\.1:(\d+)(/[\w/]+)", code)[0]
    assert port == said["EXPOSE"]
    assert path in routes()


def test_the_compose_file_serves_read_only_with_its_secret() -> None:
    found = yaml.safe_load((EXPORT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = found["services"].values()
    build = service["build"]
    assert (EXPORT / "docker" / build["context"] / build["dockerfile"]).resolve() == EXPORT / "docker" / "Dockerfile"
    options = parsed(service["command"])
    assert f"/run/secrets/{service['secrets'][0]}" == str(options["token_file"])
    assert set(service["secrets"]) == set(found["secrets"])
    assert service["read_only"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) > options["drain_timeout"]


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXPORT / "kubernetes" / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def cluster() -> dict[str, dict[str, Any]]:
    """What kustomization.yaml lists, by kind."""
    (listed,) = manifests("kustomization.yaml")
    return {item["kind"]: item for name in listed["resources"] for item in manifests(name)}


def test_the_manifests_are_what_kubernetes_takes(cluster: dict[str, dict[str, Any]]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="needs the schemas of kubernetes-validate")
    assert set(cluster) >= {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    for item in cluster.values():
        # strict: a field that the schema has not is an error.
        validate.validate(item, "1.31", strict=True)
    broken = {**cluster["Service"], "spec": {**cluster["Service"]["spec"], "prots": []}}
    with pytest.raises(validate.ValidationError):
        validate.validate(broken, "1.31", strict=True)


def test_the_manifests_agree_with_each_other_and_with_the_server(cluster: dict[str, dict[str, Any]]) -> None:
    deployment, pod = cluster["Deployment"], cluster["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    options = check_container(container, pod["spec"])
    (listed,) = manifests("kustomization.yaml")
    (image,) = listed["images"]
    (secret,) = listed["secretGenerator"]
    assert container["image"] == image["name"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["token"]["secret"]["secretName"] == secret["name"]
    assert Path(options["token_file"]).name in secret["files"]
    claim = volumes["bundles"]["persistentVolumeClaim"]["claimName"]
    assert claim == cluster["PersistentVolumeClaim"]["metadata"]["name"]
    labels = pod["metadata"]["labels"].items()
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        cluster["Service"]["spec"]["selector"],
        cluster["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    assert cluster["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (port,) = cluster["Service"]["spec"]["ports"]
    assert port["targetPort"] in {item["name"] for item in container["ports"]}
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > options["drain_timeout"] + before
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_the_runtime_of_kserve_serves_the_model_under_its_name() -> None:
    runtime, service = manifests("kserve.yaml")
    assert (runtime["kind"], service["kind"]) == ("ServingRuntime", "InferenceService")
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container", "KServe puts the model into the container of this name"
    check_container(container, runtime["spec"])
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {item["name"] for item in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    from zoo.runtime.serve.shelf import named

    assert named(container["args"][1].replace("{{.Name}}", "flowers")) == ("flowers", Path("/mnt/models"))


def check_container(container: dict[str, Any], pod: dict[str, Any]) -> dict[str, Any]:
    """Options that `zoo serve` has, probes of open routes on its port, mounts of volumes that there are, no rights."""
    options = parsed(container["args"])
    ports = {item["name"]: item["containerPort"] for item in container["ports"]}
    assert options["host"] == "0.0.0.0"
    assert options["port"] in ports.values()
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if name in container:
            asked = container[name]["httpGet"]
            assert asked["path"] in routes()
            assert ports.get(asked["port"], asked["port"]) == options["port"]
    assert container["livenessProbe"]["httpGet"]["path"].endswith("live")
    assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[str(Path(options["token_file"]).parent)]["readOnly"] is True
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert container["resources"]["limits"]["memory"]
    return options
