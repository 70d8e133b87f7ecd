"""Batches and Ray Serve on a Ray cluster of two nodes: `python -m tests.serving.cluster BUNDLE PHOTOS OUTPUT`.

One run, because each start of a cluster costs seconds.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.serving.conftest import png
from tests.test_cli import ok
from zoo.errors import ConfigError
from zoo.runtime.serve.settings import is_loopback

ROOT = Path(__file__).resolve().parent.parent.parent
APP = ROOT / "export" / "ray_serve"
ENVIRONMENT = {
    # No token in the home folder, no figures sent.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers are nicer than anything else on the machine, where each is its own: here they would wait for other tests.
    "RAY_worker_niceness": "0",
    # Else whoever asks is answered by a replica on the node that was asked.
    "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
    # Ray Serve ends a process that a busy machine has not started in five seconds, and starts another.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
    "PYTHONPATH": os.pathsep.join([str(APP), str(ROOT), os.environ.get("PYTHONPATH", "")]),
}


@contextmanager
def cluster() -> Iterator[None]:
    """Ray on two nodes, each with a process of its own and one core."""
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        started.add_node(num_cpus=1)
        ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        started.shutdown()


def places(name: str) -> dict[str, str]:
    """Of the actors whose name or class has this in it: by which node each runs or ran."""
    from ray._private import state

    actors = state.actors().values()
    return {actor["Name"] or actor["ActorID"]: actor["Address"]["NodeID"] for actor in actors if name in str(actor)}


def check_batches(model: zoo.runtime.BundleModel, photos: Path, output: Path) -> None:
    import pandas
    from ray.data import DataContext

    # Else the first worker may have answered everything before the second has started.
    DataContext.get_current().wait_for_min_actors_s = 120
    seen: list[int] = []
    run = zoo.batch(model.folder, photos, output, workers=2, part_rows=2, on_part=lambda run: seen.append(run.parts))
    assert run.to_dict() == {"output": str(output), "rows": 9, "errors": 1, "parts": 5, "of": 5, "kept": 0}
    assert seen == list(range(6))
    assert len(set(places("MapWorker").values())) == 2, "both nodes worked"
    frame = pandas.read_parquet(output)
    good = frame[frame["error"].isna()]
    assert [Path(path).name for path in frame[frame["error"].notna()]["input"]] == ["broken.jpg"]
    assert good["input"].is_unique
    assert len(good) == 8
    for path, text in zip(good["input"], good["result"], strict=True):
        found, expected = json.loads(text), model.predict(path)
        assert (found["label"], found["score"]) == (expected.label, pytest.approx(expected.score))
    kept = (output / "part-000001.parquet").stat().st_mtime_ns
    (output / "part-000003.parquet").unlink()
    command = ("batch", model.folder, photos, "-o", output, "--workers", 2, "--part-rows", 2)
    assert "9 inputs, 1 of them an error, 4 of 5 files kept" in ok(*command)
    assert json.loads(ok(*command, "--json"))["kept"] == 5
    assert (output / "part-000001.parquet").stat().st_mtime_ns == kept
    assert frame.equals(pandas.read_parquet(output))
    with pytest.raises(ConfigError, match="holds another run, of other options"):
        zoo.batch(model.folder, photos, output, part_rows=2, top_k=1)


def build(arguments: dict[str, Any]) -> Any:
    """The application as `serve run` makes it of its command line, or of serve.yaml."""
    import app
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    return call_user_app_builder_with_args_if_necessary(app.app, arguments)


def check_serving(bundle: Path, model: zoo.runtime.BundleModel) -> None:
    import ray
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(
        proxy_location="HeadOnly", http_options={"host": "0.0.0.0", "port": port}, logging_config={"log_level": "ERROR"}
    )
    serve.run(build({"bundles": str(bundle), "replicas": "2"}), name="animals", route_prefix="/here")
    base = f"http://127.0.0.1:{port}/here"
    with urllib.request.urlopen(f"{base}/v2/models/{model.folder.stem}/ready", timeout=60) as answer:
        assert json.load(answer) == {"ready": True}
    picture, answered = png(), set()
    expected = model.predict(picture)
    body = json.dumps({"inputs": {"base64": base64.b64encode(picture).decode()}}).encode()
    for _ in range(60):
        request = urllib.request.Request(f"{base}/predict/animals", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["result"]
            answered.add(answer.headers["x-served-by"])
        assert (found["label"], found["score"]) == (expected.label, pytest.approx(expected.score))
        if len(answered) == 2:
            break
    # What Ray listens on for other machines is answered only with a token.
    address = ray.util.get_node_ip_address()
    if not is_loopback(address):
        stranger = urllib.request.Request(f"http://{address}:{port}/here/v2", headers={"host": "localhost"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(stranger, timeout=60)
    nodes = {name.rpartition("#")[2]: node for name, node in places("SERVE_REPLICA").items()}
    assert len({nodes[replica] for replica in answered}) == 2, "replicas on both nodes answered"


def main() -> None:
    bundle, photos, output = map(Path, sys.argv[1:])
    model = zoo.runtime.load(bundle)
    with cluster():
        check_batches(model, photos, output)
        check_serving(bundle, model)


if __name__ == "__main__":
    main()
