"""A fuzzer that is led by coverage, over our own parsers: run by hand, for as long as one likes.

    pip install atheris
    python -m tests.safety.coverage_fuzz graph --seconds 300        # or card, manifest, tokenizer, tensors, inputs, ...

Each target gives data, or one error of ours; anything else ends the run, and libFuzzer leaves the input that did it.
What is found is mended, and stays as an example in `test_fuzz.py` or as a case of the files beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zoo"]):
    import zoo.runtime
    from zoo import bundle, manifest
    from zoo.errors import ZooError
    from zoo.modalities import image, recordings
    from zoo.modalities.tokenizing import open_tokenizer
    from zoo.runtime.graphs import check_graph
    from zoo.runtime.serve import protocol
    from zoo.runtime.serve.inputs import Reader, json_of
    from zoo.runtime.serve.refusals import Refusal
    from zoo.runtime.serve.settings import Limits

from tests.safety import tiny

Target = Callable[[bytes], None]


def _file(folder: Path, name: str, read: Callable[[Path], object]) -> Target:
    path = folder / name

    def once(content: bytes) -> None:
        path.write_bytes(content)
        read(path)

    return once


def _tensors(content: bytes) -> None:
    """The first two bytes say how long the header is."""
    protocol._read(content[2:], str(int.from_bytes(content[:2], "little")))


def _inputs(reader: Reader) -> Target:
    def once(content: bytes) -> None:
        given = json_of(content)
        if isinstance(given, dict):
            reader.options(given.get("options", {}))
            reader.rows(given.get("inputs"))

    return once


def _picture(content: bytes) -> None:
    image.header(content)
    with image.decoded(content):
        pass


def targets(folder: Path) -> dict[str, tuple[Target, list[bytes]]]:
    """By name: what reads bytes, and bytes that it reads well."""
    whole = {kind: tiny.write(folder / f"{kind}.bundle", kind) for kind in tiny.GRAPHS}
    readers = {kind: Reader(zoo.runtime.load(path), Limits()) for kind, path in whole.items()}
    head = json.dumps(
        {"inputs": [{"name": "a", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}}]}
    )
    texts = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]})
    asked = json.dumps({"inputs": ["a", ["b", "c"], {"base64": "AAAA"}], "options": {"top_k": 2}}).encode()
    cards = folder / "cards"
    cards.mkdir()
    return {
        "graph": (
            _file(folder, "a.onnx", check_graph),
            [(path / bundle.GRAPH).read_bytes() for path in whole.values()],
        ),
        "card": (
            _file(cards, bundle.CARD, lambda path: bundle.read_card(path.parent)),
            [(path / bundle.CARD).read_bytes() for path in whole.values()],
        ),
        "manifest": (
            _file(whole["text"], manifest.MANIFEST, lambda path: manifest.verify(path.parent)),
            [(whole["text"] / manifest.MANIFEST).read_bytes()],
        ),
        "tokenizer": (
            _file(folder, bundle.TOKENIZER, open_tokenizer),
            [(whole["text"] / bundle.TOKENIZER).read_bytes()],
        ),
        "tensors": (
            _tensors,
            [len(h).to_bytes(2, "little") + h.encode() + b for h, b in ((head, bytes(8)), (texts, b""))],
        ),
        "inputs": (_inputs(readers["text"]), [asked]),
        "media": (_inputs(readers["audio"]), [asked]),
        "recording": (lambda content: void(recordings.read(content, 16000)), [_wav()]),
        "picture": (_picture, [_png()]),
    }


def void(_: object) -> None:
    """What is read is not looked at."""


def _wav() -> bytes:
    import io

    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(64, dtype=np.float32), 16000, format="WAV")
    return file.getvalue()


def _png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, format="PNG")
    return file.getvalue()


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        known = targets(Path(place))
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("target", choices=sorted(known))
        parser.add_argument("--seconds", type=int, default=60)
        asked = parser.parse_args()
        read, seeds = known[asked.target]
        corpus = Path(place, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed)

        def once(content: bytes) -> None:
            try:
                read(content)
            except (ZooError, Refusal):
                return

        atheris.Setup([sys.argv[0], f"-max_total_time={asked.seconds}", "-max_len=65536", str(corpus)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
