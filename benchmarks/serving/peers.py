"""Other servers over the same bundle: its encoder, its graph and its decoding, so that only the server differs.

    python -m benchmarks.serving.peers KIND BUNDLE PORT [OPTIONS]

`fastapi-def` and `fastapi-async`: what one writes first, one request, one run of the session; the option is the number
of uvicorn's workers. `litserve`: with options, as JSON, of its LitAPI and of its LitServer.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import zoo.runtime

BUNDLE, THREADED = "PEER_BUNDLE", "PEER_THREADED"


def fastapi(bundle: str, port: int, *, threaded: bool, workers: int) -> None:
    import uvicorn

    # A worker is a process of its own, which makes its application by itself.
    os.environ |= {BUNDLE: bundle, THREADED: "yes" if threaded else ""}
    uvicorn.run(
        "benchmarks.serving.peers:application", factory=True, host="127.0.0.1", port=port, workers=workers,
        access_log=False, log_level="warning",
    )  # fmt: skip


def application() -> Any:
    from fastapi import FastAPI
    from pydantic import BaseModel

    model = zoo.runtime.load(os.environ[BUNDLE])
    app = FastAPI()

    class Question(BaseModel):
        inputs: str

    def answer(question: Question) -> dict[str, Any]:
        return {"result": model.predict(question.inputs).to_dict()}

    async def answer_async(question: Question) -> dict[str, Any]:
        return answer(question)

    # The annotation is of a class that only this function knows.
    for handler in (answer, answer_async):
        handler.__annotations__["question"] = Question
    app.post("/predict")(answer if os.environ[THREADED] else answer_async)
    return app


def main() -> None:
    kind, bundle, port, *options = sys.argv[1:]
    if kind == "litserve":
        from benchmarks.serving.litserve_peer import serve

        serve(bundle, int(port), json.loads(options[0]) if options else {})
    else:
        fastapi(bundle, int(port), threaded=kind == "fastapi-def", workers=int(options[0]) if options else 1)


if __name__ == "__main__":
    main()
