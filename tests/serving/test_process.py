"""A real server in a process of its own: tritonclient, slow clients, signals, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.safety import tiny
from tests.serving.conftest import png
from tests.serving.process import Server, serving
from zoo import bundle


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[Server]:
    limits = ("--header-timeout", "0.5", "--body-timeout", "0.5", "--max-body-mb", "0.2", "--batch-delay-ms", "0")
    with serving(bundles["tagger"], bundles["animals"], *limits) as started:
        end = time.monotonic() + 60
        while not all(model["state"] == "READY" for model in started.ask("/v2/repository/index", {})):
            assert time.monotonic() < end
        yield started


def test_tritonclient_gets_results_and_tensors(server: Server) -> None:
    triton = pytest.importorskip("tritonclient.http")
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tagger")
    assert client.get_model_metadata("animals")["inputs"][0]["datatype"] == "UINT8"
    texts = np.array(["Ada Lovelace lives in London.", "中文"], dtype=np.object_)
    plain = server.ask("/predict/tagger", {"inputs": list(texts)})["results"]
    for binary in (True, False):
        given = triton.InferInput("text", [2], "BYTES")
        given.set_data_from_numpy(texts, binary_data=binary)
        wanted = [triton.InferRequestedOutput("result", binary_data=binary)]
        found = client.infer("tagger", [given], outputs=wanted).as_numpy("result")
        assert [json.loads(text) for text in found] == plain
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([png()], dtype=np.object_))
    result = json.loads(client.infer("animals", [image], parameters={"top_k": 1}).as_numpy("result")[0])
    assert len(result["top"]) == 1
    pixels = triton.InferInput("pixel_values", [2, 3, *_size(client)], "UINT8")
    pixels.set_data_from_numpy(np.zeros([2, 3, *_size(client)], dtype=np.uint8))
    assert client.infer("animals", [pixels]).as_numpy("logits").shape == (2, 2)
    wrong = triton.InferInput("pixel_values", [1], "FP32")
    wrong.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    with pytest.raises(triton.InferenceServerException, match="is of UINT8"):
        client.infer("animals", [wrong])
    client.load_model("tagger")
    assert client.is_model_ready("tagger")


def _size(client: Any) -> list[int]:
    found: list[int] = client.get_model_metadata("animals")["inputs"][0]["shape"][2:]
    return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),
        (b"GET /v2 HTTP/1.1\r\nhost: local", b"408"),
        (b"GET /v2 HTTP/1.1\r\nx: " + b"a" * 100_000, b"431"),
        (
            b"POST /predict/tagger HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 9\r\n\r\n{",
            b"408",
        ),
    ],
    ids=["silent", "slow headers", "endless headers", "slow body"],
)
def test_slow_and_endless_requests_are_cut_off(server: Server, sent: bytes, status: bytes) -> None:
    with server.connect() as connection:
        began = time.monotonic()
        connection.sendall(sent)
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 " + status), answer
        assert time.monotonic() - began < 10


def test_a_body_that_is_too_large_is_refused_in_a_way_that_its_client_can_read(server: Server) -> None:
    body = b"a" * 300_000
    for head in (b"content-length: 300000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n493e0\r\n"):
        with server.connect() as connection:
            start = b"POST /predict/tagger HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            connection.sendall(start + head + body[:150_000])
            time.sleep(0.05)
            connection.sendall(body[150_000:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
    assert server.ask("/v2/health/live") == {"live": True}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs Linux's TCP_USER_TIMEOUT")
def test_a_client_that_does_not_read_loses_its_connection(server: Server) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mine = connection.getsockname()[1]

        def held() -> bool:
            found = psutil.Process(server.process.pid).net_connections("tcp")
            return any(item.raddr and item.raddr.port == mine and item.status == "ESTABLISHED" for item in found)

        connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1000)
        # First it is accepted, then it is cut off.
        for wanted in (True, False):
            end = time.monotonic() + 20
            while held() is not wanted:
                assert time.monotonic() < end, f"the connection is {'not ' * wanted}there"
                time.sleep(0.02)
    assert server.ask("/v2/health/live") == {"live": True}


def test_a_kept_connection_answers_again_and_again(server: Server) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for pause in (0, 0, 0.7):
        time.sleep(pause)
        connection.request("POST", "/predict/tagger", '{"inputs": "a"}', {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()


def test_a_bundle_is_exchanged_by_a_signal_and_a_damaged_one_is_not_taken(server: Server, bundles: Any) -> None:
    before = server.ask("/predict/tagger", {"inputs": "Ada"})
    os.kill(server.process.pid, signal.SIGHUP)
    server.logged("model was loaded again")
    assert server.ask("/predict/tagger", {"inputs": "Ada"}) == before
    card = bundles["tagger"] / "zoo.yaml"
    whole = card.read_bytes()
    try:
        card.write_bytes(whole + b"#")
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.ask("/v2/repository/models/tagger/load", {})
        assert refused.value.code == 409
        assert str(bundles["tagger"]) not in refused.value.read().decode()
    finally:
        card.write_bytes(whole)
    assert server.ask("/predict/tagger", {"inputs": "Ada"}) == before


def test_sigterm_lets_running_requests_end_and_leaves_no_process(bundles: dict[str, Path]) -> None:
    with serving(bundles["tagger"], "--batch-delay-ms", "1500") as server:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(server.ask("/predict/tagger", {"inputs": "Ada"})))
        asking.start()
        time.sleep(0.5)
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.terminate()
        assert server.process.wait(20) == 0
        asking.join(5)
        assert answers[0]["model"] == "tagger"
        assert not children
        with pytest.raises(ConnectionRefusedError):
            server.connect()


def test_the_command_refuses_what_it_cannot_serve(tmp_path: Path, bundles: dict[str, Path]) -> None:
    from typer.testing import CliRunner

    from zoo.cli.app import app

    def run(*arguments: str | Path) -> str:
        done = CliRunner().invoke(app, ["serve", *map(str, arguments)], env={"COLUMNS": "80"})
        assert done.exit_code == 1, done.output
        return done.output

    tagger = bundles["tagger"]
    assert "needs a token" in " ".join(run(tagger, "--host", "0.0.0.0").split())
    assert "There is no bundle at" in run(tmp_path / "none.bundle")
    assert "Two bundles would be named 'tagger'" in run(tagger, tagger)
    assert "max_rows" in run(tagger, "--max-rows", "0")
    assert "can't be read" in run(tagger, "--token-file", tmp_path / "none")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "can't be listened on" in run(tagger, "--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_model_opens_and_can_not_answer_says_so_and_ends(tmp_path: Path, workers: str) -> None:
    folder = tiny.write(tmp_path / "broken.bundle", "text")
    card = folder / bundle.CARD
    whole = card.read_text(encoding="utf-8")
    card.write_text(whole.replace("  - 'yes'\n", ""), encoding="utf-8")
    assert card.read_text(encoding="utf-8") != whole
    tiny.seal(folder)
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "serve", str(folder), "--port", "0"]
    done = subprocess.run([*command, "--workers", workers], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("zoo: ")
    assert "was opened and can't answer" in said
