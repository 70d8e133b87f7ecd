"""Other servers over the same bundle: its encoder, its graph and its decoding, so that only the server differs.

    python -m benchmarks.serving.peers KIND BUNDLE PORT [OPTIONS AS JSON]

`fastapi-def` and `fastapi-async`: what one writes first, one request, one run of the session. `litserve`: with options
of its LitAPI and of its LitServer.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import zoo.runtime


def fastapi(bundle: str, port: int, *, threaded: bool) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    model = zoo.runtime.load(bundle)
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
    app.post("/predict")(answer if threaded else answer_async)
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


def main() -> None:
    kind, bundle, port, *options = sys.argv[1:]
    if kind == "litserve":
        from benchmarks.serving.litserve_peer import serve

        serve(bundle, int(port), json.loads(options[0]) if options else {})
    else:
        fastapi(bundle, int(port), threaded=kind == "fastapi-def")


if __name__ == "__main__":
    main()
