"""A bundle behind LitServe, as its documentation writes it. Its workers are spawned: the class stands in a module."""

from __future__ import annotations

from typing import Any

import litserve

import zoo.runtime

OF_API = ("max_batch_size", "batch_timeout")


class Api(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, bundle: str, **options: Any) -> None:
        super().__init__(**options)
        self.bundle = bundle

    def setup(self, device: str) -> None:
        self.model = zoo.runtime.load(self.bundle)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe makes the route of the annotation
        return str(request["inputs"])

    def predict(self, given: Any) -> Any:
        """given: a text, or with batches a list of them."""
        return self.model.predict(given)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"result": output.to_dict()}


def serve(bundle: str, port: int, options: dict[str, Any]) -> None:
    api = Api(bundle, **{name: value for name, value in options.items() if name in OF_API})
    server = litserve.LitServer(api, accelerator="cpu", **{n: v for n, v in options.items() if n not in OF_API})
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
