"""`zoo serve` under load: every answer compared, none lost, memory watched.

    python benchmarks/serving_load.py            # 250,000 requests, some minutes on two cores; writes results
    python benchmarks/serving_load.py --requests 3000    # shows that it runs, writes nothing

The server is a process of its own, with tiny models of random weights. Clients send texts, lists, images, recordings,
tensors by the protocol, and ask for streams; they send what must be refused; some are slow, some leave in the middle.
Meanwhile a model is exchanged again and again for one that gives other answers, and once for a damaged one. After nine
tenths the server gets SIGTERM in the middle of it all, and another one takes the rest. Wrong: an answer that is not the
bundle's, or of a model that was exchanged before the request was sent. Lost: a request that a server took and did not
answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "quality"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RESULTS, environment

from benchmarks.serving import questions, tiny_bundles
from benchmarks.serving.clients import Clients
from benchmarks.serving.http_client import Connection, request
from benchmarks.serving.process import Server

RESULT = RESULTS / "serving_load.json"
BEHAVING, MISBEHAVING = 32, 16
BODY_TIMEOUT = 2.0
ARGUMENTS = ("--body-timeout", str(BODY_TIMEOUT), "--header-timeout", str(BODY_TIMEOUT))


class Proof:
    """One run. folder: holds the bundles, and gets the logs."""

    def __init__(self, folder: Path, total: int, exchanges: int) -> None:
        self.folder = folder
        self.total = total
        self.steps = [total * (i + 1) // (exchanges + 2) for i in range(exchanges)]
        self.clients = Clients(questions.all_of(folder), body_timeout=BODY_TIMEOUT)
        self.memory: list[tuple[int, int]] = []  # requests so far, bytes
        self.found: dict[str, Any] = {"reloads": {"signal": 0, "route": 0, "refused as damaged": 0}}
        self.server: Server

    def start(self, name: str) -> None:
        bundles = [self.folder / f"{model}.bundle" for model in tiny_bundles.MODELS]
        self.server = Server(bundles, self.folder / f"{name}.log", *ARGUMENTS)
        self.clients.port = self.server.port
        self.clients.ending = False
        self.clients.up.set()
        self.clients.leaving.set()

    async def run(self) -> dict[str, Any]:
        clients, began = self.clients, time.monotonic()
        await asyncio.to_thread(self.start, "first")
        began = time.monotonic()
        tasks = [asyncio.create_task(clients.behave(seed)) for seed in range(BEHAVING)]
        tasks += [asyncio.create_task(clients.misbehave(1000 + seed)) for seed in range(MISBEHAVING)]
        watching = asyncio.create_task(self._watch())
        try:
            for number, step in enumerate(self.steps):
                await self._until(step)
                await self._exchange(number)
            await self._until(self.total * 9 // 10)
            watching.cancel()
            await self._end()
            await asyncio.to_thread(self.start, "second")
            await self._until(self.total)
            clients.done = True
            seconds = time.monotonic() - began
            await asyncio.gather(*tasks)
            self.server.process.terminate()
            self.found["exit codes"].append(await asyncio.to_thread(self.server.process.wait, 60))
        finally:
            for task in (*tasks, watching):
                task.cancel()
            self.server.kill()
        return self._result(seconds)

    async def _until(self, count: int) -> None:
        while self.clients.tally.total < count:
            if self.server.process.poll() is not None:
                raise RuntimeError("zoo serve ended by itself")
            await asyncio.sleep(0.02)

    async def _watch(self) -> None:
        while True:
            self.memory.append((self.clients.tally.total, self.server.resident))
            await asyncio.sleep(0.1)

    async def _exchange(self, number: int) -> None:
        """Put another model where the old one is, tell the server, and have it confirmed."""
        if number == 1:
            await self._damaged()
        tally, reloads = self.clients.tally, self.found["reloads"]
        tally.underway = tally.confirmed + 1
        await asyncio.to_thread(tiny_bundles.exchange, self.folder, tally.underway)
        if number % 2:
            assert await self._load() == 200
            reloads["route"] += 1
        else:
            known = len(self._loaded_again())
            os.kill(self.server.process.pid, signal.SIGHUP)
            while len(self._loaded_again()) == known:
                await asyncio.sleep(0.05)
            reloads["signal"] += 1
        tally.confirmed = tally.underway

    def _loaded_again(self) -> list[Any]:
        return [line for line in self.server.said("model was loaded again") if line["model"] == tiny_bundles.EXCHANGED]

    async def _damaged(self) -> None:
        card = self.folder / f"{tiny_bundles.EXCHANGED}.bundle" / "zoo.yaml"
        whole = card.read_bytes()
        card.write_bytes(whole + b"#")
        assert await self._load() == 409
        card.write_bytes(whole)
        self.found["reloads"]["refused as damaged"] += 1

    async def _load(self) -> int:
        connection = await Connection.open(self.server.port)
        answer = await connection.ask(request("POST", f"/v2/repository/models/{tiny_bundles.EXCHANGED}/load"))
        self.clients.tally.ids.add(answer.id)
        connection.close()
        return answer.status

    async def _end(self) -> None:
        """SIGTERM in the middle. Every request that the server says it answered must have come to its client."""
        clients, server = self.clients, self.server
        clients.leaving.clear()
        while clients.left:
            await asyncio.sleep(0.01)
        before = {line["id"] for line in server.said("request")}
        clients.ending = True
        server.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(server.process.wait, 60)
        clients.up.clear()
        self.found["exit codes"] = [code]
        after = [line for line in server.said("request") if line["id"] not in before]
        self.found["answered after SIGTERM"] = len(after)
        unknown = [line for line in after if line["id"] not in clients.tally.ids]
        clients.tally.lost += [f"the server says that it answered, and no client has it: {line}" for line in unknown]

    def _resident(self, share: float) -> float:
        """The median of the twentieth of the measurements nearest to that share of all requests, or of the nearest."""
        near = sorted(self.memory, key=lambda found: abs(found[0] - share * self.total))
        return statistics.median(size for _, size in near[: max(len(near) // 20, 1)])

    def _result(self, seconds: float) -> dict[str, Any]:
        tally = self.clients.tally
        settled, end = self._resident(0.075), self._resident(0.875)
        lines = [
            json.loads(line)
            for name in ("first", "second")
            for line in (self.folder / f"{name}.log").read_bytes().splitlines()
        ]
        return {
            "requests": tally.total,
            "by kind": {kind: {"asked": n, "right": tally.right[kind]} for kind, n in sorted(tally.asked.items())},
            "wrong": len(tally.wrong),
            "lost": len(tally.lost),
            "examples": [*tally.wrong[:5], *tally.lost[:5]],
            "faults of the server (5xx)": sum(line.get("status", 0) >= 500 for line in lines),
            "errors in its log": sum(line["level"] == "error" for line in lines),
            **self.found,
            "connections refused after SIGTERM": tally.refused,
            "closed before a byte was answered, after SIGTERM": tally.unread,
            "resident bytes": {
                "by requests": dict(self.memory[:: max(len(self.memory) // 20, 1)]),
                "after 5 to 10 % of the requests": int(settled),
                "after 85 to 90 %": int(end),
                "most": max(size for _, size in self.memory),
                "growth": end / settled - 1,
            },
            "seconds": seconds,
            "requests per second": tally.total / seconds,
        }


def told(result: dict[str, Any]) -> str:
    """The outcome in a sentence, for docs/serving.md."""
    memory, reloads = result["resident bytes"], result["reloads"]
    return (
        f"**{result['requests']:,} requests, {result['wrong']} wrong answers, {result['lost']} lost**; "
        f"{reloads['signal'] + reloads['route']} exchanges; resident memory "
        f"{memory['after 5 to 10 % of the requests'] / 1e6:.0f} MB after the first requests, "
        f"{memory['after 85 to 90 %'] / 1e6:.0f} MB at the end."
    )


def prove(folder: Path, total: int, exchanges: int = 8) -> dict[str, Any]:
    tiny_bundles.make(folder)

    async def run() -> dict[str, Any]:
        return await Proof(folder, total, exchanges).run()

    return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, help="fewer: shows that it runs, and writes nothing")
    total = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        found = prove(Path(folder), total or 250_000)
    versions = {name: version(name) for name in ("uvicorn", "starlette", "httptools")}
    result = {**environment(), "serving": versions, "load_average": os.getloadavg()[0], **found}
    print(json.dumps(result, indent=1), told(result), sep="\n")
    if total is None:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
