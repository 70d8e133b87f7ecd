"""`zoo serve`: bundles over HTTP, until SIGTERM."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.fields import parsed, with_fields
from zoo.cli.shared import note, readable
from zoo.errors import ConfigError
from zoo.runtime.serve.settings import Limits

TOKEN = "ZOO_SERVE_TOKEN"


@readable
@with_fields(Limits, panel="Limits and batches")
def serve(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE...",
            help="What `zoo export` wrote; NAME=BUNDLE gives it another name in the routes.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; other than this machine's needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Holds the bearer token that every request then needs; or set {TOKEN}.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda|auto", envvar="ZOO_DEVICE", help="What runs the graphs.")] = (
        "cpu"
    ),
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of one operator; ONNX Runtime's choice if not given.", show_default=False)
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that answer, each with the models and the limits for itself.")
    ] = 1,
    log_format: Annotated[str, typer.Option(metavar="json|text", help="Of the log on standard error.")] = "json",
    **limits: Any,
) -> None:
    """Serve bundles over HTTP: the Open Inference Protocol v2, a plain route, a page. Needs no torch."""
    from zoo.options import parse_options
    from zoo.runtime import serve as serving

    settings = {
        "host": host,
        "port": port,
        "token": _token(token_file),
        "device": device,
        "threads": threads,
        "workers": workers,
        "log_format": log_format,
        "limits": parsed(Limits, limits),
    }
    if not serving.run(bundles, parse_options(serving.Settings, settings, where="zoo serve")):
        note("zoo: a model was still busy after the time to drain; it is given up.")
        # Its thread can't be ended, and Python would wait for it.
        os._exit(1)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The token file {file} can't be read: {error}") from error
