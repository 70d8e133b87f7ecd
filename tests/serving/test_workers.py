"""`zoo serve --workers 2`: two processes on one address, which load together, are replaced, and end together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.serving.process import Server, serving
from zoo.runtime.serve.listening import DEALT

LOAD = "/v2/repository/models/mine/load"


@pytest.fixture(scope="module")
def folder(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that may be exchanged."""
    return shutil.copytree(bundles["tagger"], tmp_path_factory.mktemp("workers") / "mine.bundle")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, "--workers", "2") as started:
        yield started


def processes(server: Server) -> list[psutil.Process]:
    """The workers; beside them Python has a process that looks after what they share."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    return [process for process in found if any("spawn_main" in part for part in process.cmdline())]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def figures(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def tasks(server: Server) -> set[str]:
    """What `mine` is, by many connections, of which each worker gets some."""
    asked = [server.ask("/predict/mine", {"inputs": "Ada lives in London."}) for _ in range(40)]
    return {answer["task"] for answer in asked}


def test_both_answer_and_count_together(server: Server) -> None:
    name = 'zoo_requests_total{model="mine",route="/predict/{name}",status="200"}'
    before = figures(server).get(name, 0)
    asked = 0

    def both() -> bool:
        nonlocal asked
        asked += 40
        assert tasks(server) == {"token-classification"}
        return {line["worker"] for line in server.lines if line.get("route") == "/predict/{name}"} == {1, 2}

    until(both)
    found = figures(server)
    assert found[name] == before + asked
    assert found['zoo_model_ready{model="mine"}'] == 1
    assert found['zoo_queue_rows{model="mine"}'] == 0
    assert found["zoo_held_bytes"] == 0
    workers = processes(server)
    assert len(workers) == 2
    loaded = {Path(item.path).name for worker in workers for item in worker.memory_maps()}
    assert any("onnxruntime" in name for name in loaded)
    assert not any(name.startswith("libtorch") for name in loaded)


def test_a_model_that_one_is_asked_to_load_again_all_have_then(
    server: Server, folder: Path, export: Callable[..., dict[str, Path]]
) -> None:
    first = folder.rename(folder.with_name("first.bundle"))
    try:
        shutil.copytree(export({"mood": ("bert-base-uncased", "text-classification")})["mood"], folder)
        assert server.ask(LOAD, {}) == {}
        assert tasks(server) == {"text-classification"}
        (folder / "zoo.yaml").write_bytes(b"damaged")
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.ask(LOAD, {})
        assert refused.value.code == 409
        assert "the old one goes on" in json.loads(refused.value.read())["error"]
        assert tasks(server) == {"text-classification"}
        with pytest.raises(urllib.error.HTTPError) as unknown:
            server.ask(LOAD.replace("mine", "other"), {})
        assert unknown.value.code == 404
    finally:
        shutil.rmtree(folder)
        first.rename(folder)
    os.kill(server.process.pid, signal.SIGHUP)
    until(lambda: sum(line["message"] == "model was loaded again" for line in server.lines) == 4)
    assert tasks(server) == {"token-classification"}


def test_one_that_dies_is_replaced_and_the_other_answers_meanwhile(server: Server) -> None:
    before = processes(server)
    before[0].kill()
    assert server.logged("a worker has gone; another takes its place")["exitcode"] == -signal.SIGKILL
    assert tasks(server) == {"token-classification"}
    until(lambda: len(processes(server)) == 2)
    until(lambda: sum(line["message"] == "model is ready" for line in server.lines) == 3)
    assert figures(server)['zoo_model_ready{model="mine"}'] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_all_end_together(bundles: dict[str, Path], number: int) -> None:
    with serving(bundles["tagger"], "--workers", "2") as server:
        found = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        until(lambda: not any(process.is_running() for process in found))
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_none_is_left_where_the_first_process_is_killed(bundles: dict[str, Path]) -> None:
    with serving(bundles["tagger"], "--workers", "2") as server:
        found = psutil.Process(server.process.pid).children(recursive=True)
        assert len(found) >= 2
        server.process.kill()
        until(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in found))


@pytest.mark.skipif(not DEALT, reason="needs Linux, which deals connections out")
def test_connections_are_dealt_out(server: Server) -> None:
    workers = {process.pid: 0 for process in processes(server)}
    connections = [server.connect() for _ in range(40)]
    try:

        def held() -> bool:
            for pid in workers:
                found = psutil.Process(pid).net_connections("tcp")
                workers[pid] = sum(bool(item.raddr) and item.laddr.port == server.port for item in found)
            return sum(workers.values()) >= len(connections)

        until(held)
        # By chance alone one of two has fewer than eight of forty once in thirty thousand times.
        assert min(workers.values()) >= 8
    finally:
        for connection in connections:
            connection.close()


def test_what_a_worker_cannot_open_is_said_by_the_command(server: Server, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from zoo.cli.app import app

    def refused(port: int) -> str:
        given = ["serve", str(tmp_path / "none.bundle"), "--workers", "2", "--port", str(port)]
        done = CliRunner().invoke(app, given)
        assert done.exit_code == 1
        return " ".join(done.output.split())

    assert "There is no bundle at" in refused(0)
    # Other workers have it, who would share it.
    assert "can't be listened on" in refused(server.port)
