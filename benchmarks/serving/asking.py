"""wrk, and what it says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ASK = Path(__file__).parent / "ask.lua"


def wrk(address: str, bodies: Path, connections: int, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(ASK), address]
    done = subprocess.run([*command, "--", str(bodies)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if found["failed"]:
        raise RuntimeError(f"{address}: {found['failed']:.0f} of {found['requests']:.0f} requests failed")
    return found
