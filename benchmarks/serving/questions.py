"""What the clients of the load test send, with the right answer of each, as the bundles give it without a server."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

import zoo.runtime
from benchmarks.serving.http_client import Answer, form, request
from benchmarks.serving.tiny_bundles import EXCHANGED, MODELS
from zoo.results import to_plain

# Batches round differently: an answer in a batch and the one alone differ in the last digits of a score.
CLOSE = 1e-4
NEW_TOKENS = 8
WORDS = ("Ada", "Lovelace", "lives", "in", "London", "and", "writes", "of", "engines", "while", "rain", "falls")


@dataclass(frozen=True, slots=True)
class Question:
    """answers: the right one of each version of the model; one, where it is not exchanged. status: the one to come."""

    kind: str
    sent: bytes
    status: int
    read: Callable[[Answer], Any]
    answers: Sequence[Any]

    def right(self, answer: Answer, first: int, last: int) -> bool:
        """Whether it is the answer of one of the versions first .. last, those there were while it was made."""
        if answer.status != self.status:
            return False
        found = self.read(answer)
        return any(same(found, self.answers[v % len(self.answers)]) for v in range(first, last + 1))


def same(found: Any, right: Any) -> bool:
    if isinstance(right, float) and isinstance(found, float):
        return math.isclose(found, right, rel_tol=CLOSE, abs_tol=CLOSE)
    if isinstance(right, dict) and isinstance(found, dict):
        return found.keys() == right.keys() and all(same(found[key], value) for key, value in right.items())
    if isinstance(right, list) and isinstance(found, list):
        return len(found) == len(right) and all(map(same, found, right))
    return type(found) is type(right) and bool(found == right)


def all_of(folder: Path) -> dict[str, list[Question]]:
    """Questions by kind."""
    models = {name: zoo.runtime.load(folder / f"{name}.bundle") for name in MODELS}
    other = zoo.runtime.load(folder / "other" / f"{EXCHANGED}.bundle")
    found = [
        *_texts(models[EXCHANGED], other),
        *_entities(models["tagger"]),
        *_images(models["animals"]),
        *_recordings(models["speech"]),
        *_streams(models["writer"]),
        *_refused(),
    ]
    kinds: dict[str, list[Question]] = {}
    for question in found:
        kinds.setdefault(question.kind, []).append(question)
    return kinds


def sentences(count: int, seed: int, longest: int = 24) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count)]


def _plain(answer: Answer) -> Any:
    given = answer.json()
    return given["result"] if "result" in given else given["results"]


def _of_protocol(answer: Answer) -> Any:
    return [json.loads(text) for text in answer.json()["outputs"][0]["data"]]


def _of_binary(answer: Answer) -> Any:
    """The answer's only output, numbers of FP32, as a list."""
    size = int(answer.headers[b"inference-header-content-length"])
    [output] = json.loads(answer.body[:size])["outputs"]
    return np.frombuffer(answer.body[size:], dtype="<f4").reshape(output["shape"]).tolist()


def _texts(first: Any, other: Any) -> list[Question]:
    path = f"/predict/{EXCHANGED}"
    found = []
    for text in sentences(100, seed=0):
        answers = [to_plain(model.predict(text)) for model in (first, other)]
        assert not same(*answers), "both versions of the model give one answer, and an exchange could not be seen"
        found.append(Question("text", request("POST", path, _json(inputs=text)), 200, _plain, answers))
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
        asked = request("POST", f"/v2/models/{EXCHANGED}/infer", _json(inputs=[tensor]))
        found.append(Question("v2 text", asked, 200, _of_protocol, [[answer] for answer in answers]))
    for start in range(20):
        texts = sentences(2 + start % 9, seed=start + 1)
        answers = [to_plain(model.predict(texts)) for model in (first, other)]
        found.append(Question("list of texts", request("POST", path, _json(inputs=texts)), 200, _plain, answers))
    return found


def _entities(model: Any) -> list[Question]:
    return [
        Question(
            "entities", request("POST", "/predict/tagger", _json(inputs=text)), 200, _plain,
            [to_plain(model.predict(text))],
        )
        for text in sentences(50, seed=50)
    ]  # fmt: skip


def _images(model: Any) -> list[Question]:
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (4 + seed % 5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60 + seed, 40)).save(file, "PNG")
        body, kind = form(file=file.getvalue())
        right = [to_plain(model.predict(file.getvalue()))]
        found.append(Question("image", request("POST", "/predict/animals", body, kind), 200, _plain, right))
        found.append(_tensors(model, rng))
    return found


def _tensors(model: Any, rng: np.random.Generator) -> Question:
    """The graph's own input by the binary extension."""
    [stated] = model.card.inputs
    array = rng.integers(0, 256, (1, *stated.shape[1:]), dtype=np.uint8)
    tensor = {
        "name": stated.name, "shape": list(array.shape), "datatype": "UINT8",
        "parameters": {"binary_data_size": array.nbytes},
    }  # fmt: skip
    head = _json(inputs=[tensor], outputs=[{"name": "logits", "parameters": {"binary_data": True}}])
    sent = request(
        "POST", "/v2/models/animals/infer", head + array.tobytes(), "application/octet-stream",
        inference_header_content_length=str(len(head)),
    )  # fmt: skip
    return Question("v2 binary", sent, 200, _of_binary, [model.session.run({stated.name: array})["logits"].tolist()])


def _recordings(model: Any) -> list[Question]:
    found = []
    for seed in range(10):
        wave = np.random.default_rng(seed).normal(0, 0.1, 2000 + 400 * seed).astype(np.float32)
        file = io.BytesIO()
        soundfile.write(file, wave, 16_000, format="WAV", subtype="FLOAT")
        body, kind = form(file=file.getvalue())
        right = [to_plain(model.predict(file.getvalue()))]
        found.append(Question("recording", request("POST", "/predict/speech", body, kind), 200, _plain, right))
    return found


def _streams(model: Any) -> list[Question]:
    path, options = "/predict/writer/stream", {"max_new_tokens": NEW_TOKENS}
    return [
        Question(
            "stream", request("POST", path, _json(inputs=text, options=options)), 200, _events,
            [to_plain(model.predict(text, **options))],
        )
        for text in sentences(20, seed=20, longest=4)
    ]  # fmt: skip


def _events(answer: Answer) -> Any:
    """The result, or what came in its place, where the pieces do not make its text up."""
    *pieces, end = answer.body.decode().strip().split("\n\n")
    texts = "".join(json.loads(piece.removeprefix("data: "))["text"] for piece in pieces)
    result = json.loads(end.partition("\ndata: ")[2]).get("result", {})
    return result if texts == result.get("text") else {"pieces": texts, "end": result}


def _refused() -> list[Question]:
    many = _json(inputs=["a"] * 300)
    sent = {
        "no JSON": (request("POST", "/predict/tagger", b'{"inputs": '), 400),
        "no such model": (request("POST", "/predict/other", _json(inputs="a")), 404),
        "no such route": (request("GET", "/nothing"), 404),
        "method": (request("GET", "/predict/tagger"), 405),
        "media type": (request("POST", "/predict/tagger", b"a", "text/plain"), 415),
        "rows": (request("POST", "/predict/tagger", many), 413),
        "no image": (request("POST", "/predict/animals", *form(file=b"no image at all")), 400),
        "a path": (request("POST", "/predict/animals", _json(inputs="/etc/passwd")), 400),
        "option": (request("POST", f"/predict/{EXCHANGED}", _json(inputs="a", options={"top_kk": 2})), 400),
        "tensor": (request("POST", f"/v2/models/{EXCHANGED}/infer", _json(inputs=[{"name": "x"}])), 400),
    }
    return [Question("refused", asked, status, _error, [True]) for asked, status in sent.values()]


def _error(answer: Answer) -> bool:
    return set(answer.json()) == {"error"}


def _json(**content: Any) -> bytes:
    return json.dumps(content).encode()
