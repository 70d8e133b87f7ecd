"""Bundles on a Ray cluster, by Ray Serve: each replica is a `zoo serve` without its own socket.

    serve run app:app bundles=/shared/tagger.bundle replicas=2      # http://127.0.0.1:8000/v2
    serve run serve.yaml                                            # several bundles, each scaled on its own

The paths of bundles must be there on every node, and `polyzoo[cpu,serve,ray]` (or gpu) must be installed on them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from ray import serve

from zoo.runtime.serve import App, Limits, Settings
from zoo.runtime.serve.refusals import Refusal
from zoo.runtime.serve.settings import is_loopback

TOKEN = "ZOO_SERVE_TOKEN"
Scope = MutableMapping[str, Any]


class Args(BaseModel):
    """What `serve run app:app NAME=VALUE ...` takes, and `args:` of serve.yaml."""

    model_config = ConfigDict(extra="forbid")

    bundles: list[str] = Field(min_length=1, description="Folders; on the command line with commas between.")
    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=1, gt=0, description="Cores of a replica, which are also its threads.")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="cuda gives each replica a GPU.")
    token_file: str | None = Field(default=None, description=f"Read on the nodes; else {TOKEN} of their environment.")
    limits: Limits = Limits()

    @field_validator("bundles", mode="before")
    @classmethod
    def _with_commas(cls, given: Any) -> Any:
        return given.split(",") if isinstance(given, str) else given


@serve.deployment(name="bundles")
@serve.ingress()
class Bundles:
    """One replica: the server's application over its own copy of the bundles."""

    def __init__(self, args: Args) -> None:
        token = _token(args.token_file)
        self._local = token is None
        settings = Settings(
            # Without a token it answers to this machine's own names alone, as `zoo serve` does.
            host="127.0.0.1" if token is None else "0.0.0.0",
            token=token,
            device=args.device,
            threads=max(int(args.cpus), 1),
            limits=args.limits,
        )
        self._served = App(args.bundles, settings)

    def __serve_build_asgi_app__(self) -> Mounted:
        return Mounted(self._served, local=self._local)

    async def check_health(self) -> None:
        """Ray counts a replica in when this returns: not before its models are warm."""
        while not self._served.shelf.ready:
            await asyncio.sleep(0.05)


class Mounted:
    """ASGI: the application below the prefix of its route. Each answer says which replica gave it.

    local: answer clients on the proxy's own machine alone: Ray may listen for others, and a Host is easily forged.
    """

    def __init__(self, app: App, *, local: bool) -> None:
        self._app = app
        self._local = local
        self._replica = serve.get_replica_context().replica_id.unique_id.encode()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        if self._local and not is_loopback((scope.get("client") or ("",))[0]):
            refusal = Refusal(403, "Without a token this server answers its own machine alone.")
            await refusal.response()(scope, receive, send)
            return

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-served-by", self._replica)]}
            await send(message)

        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"
        await self._app({**scope, "path": path, "raw_path": path.encode(), "root_path": ""}, receive, named)


def app(given: dict[str, Any]) -> serve.Application:
    """What `serve run` builds: one application of the bundles that are scaled together. given: as `Args` says."""
    args = Args.model_validate(given)
    options = Bundles.options(
        num_replicas=args.replicas,
        # The batches of `zoo.runtime.serve` need requests that wait for each other; Ray's own default is 5.
        max_ongoing_requests=4 * args.limits.batch_rows,
        graceful_shutdown_timeout_s=args.limits.drain_timeout + 5,
        ray_actor_options={"num_cpus": args.cpus, "num_gpus": 1 if args.device == "cuda" else 0},
    )
    return options.bind(args)


def _token(file: str | None) -> str | None:
    return Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN) or None
