"""What a server allows, and how it batches: one frozen object, each field documented where it is."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, model_validator

from zoo.errors import ConfigError
from zoo.options import Options

MIN_TOKEN = 16  # characters of a bearer token


class Limits(Options):
    """What a client may ask for; beyond it the answer is 413, 429 or 503 with Retry-After."""

    max_body_mb: float = Field(default=32, gt=0, description="Of one request's body, declared or chunked: else 413.")
    max_rows: int = Field(default=256, ge=1, description="Inputs in one request: else 413.")
    max_characters: int = Field(default=100_000, ge=1, description="Of one text: else 413.")
    max_pixels: int = Field(default=50_000_000, ge=1, description="Of one image, by its header: else 413.")
    max_seconds: float = Field(default=600, gt=0, description="Of one recording, by its header: else 413.")
    max_new_tokens: int = Field(default=1024, ge=1, description="Of one generation: else 413.")
    max_queue: int = Field(default=1024, ge=1, description="Inputs that wait for one model: else 429.")
    max_streams: int = Field(default=32, ge=1, description="Texts that are generated at once as streams: else 429.")
    max_requests: int = Field(default=512, ge=1, description="Requests at once: else 503.")
    max_held_mb: float = Field(default=512, gt=0, description="Bodies held in memory at once, together: else 503.")
    timeout: float = Field(default=60, gt=0, description="Seconds from a request's body to its answer: else 503.")
    header_timeout: float = Field(default=10, gt=0, description="Seconds for a request's headers: else cut off.")
    body_timeout: float = Field(
        default=30, gt=0, description="Seconds to send a body, else 408; and to read an answer."
    )
    drain_timeout: float = Field(default=30, gt=0, description="Seconds to finish what is running, after SIGTERM.")
    batch_rows: int = Field(default=32, ge=1, description="Inputs of several requests that are answered together.")
    batch_delay_ms: float = Field(default=0, ge=0, description="How long the first of them waits for others.")

    @model_validator(mode="after")
    def _queue_takes_a_request(self) -> Limits:
        if self.max_queue < self.max_rows:
            raise ValueError(f"max_queue is {self.max_queue}; a request may have max_rows, {self.max_rows}, inputs")
        return self

    @property
    def body_bytes(self) -> int:
        return int(self.max_body_mb * 1_000_000)

    @property
    def held_bytes(self) -> int:
        return int(self.max_held_mb * 1_000_000)


class Settings(Options):
    """Where a server listens, and to whom. token: the bearer token that every route but the probes then needs.

    threads: of one operator; None shares the cores out among the workers. workers: processes, each with the models and
    the limits for itself.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    token: str | None = Field(default=None, repr=False)
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    threads: int | None = Field(default=None, ge=1)
    workers: int = Field(default=1, ge=1, le=256)
    log_format: Literal["json", "text"] = "json"
    limits: Limits = Limits()


def check(settings: Settings) -> None:
    """Raises ConfigError for a token that is easily guessed, and for an address beyond this machine without one."""
    token = settings.token
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError(
            f"The token has {len(token)} characters; give at least {MIN_TOKEN}, printable ASCII without spaces. "
            'One is made by: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    if token is None and not is_loopback(settings.host):
        raise ConfigError(
            f"--host {settings.host} can be reached from other machines, and then every request needs a token: put one "
            "into a file and give --token-file FILE, or set ZOO_SERVE_TOKEN. Without a token, use 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
