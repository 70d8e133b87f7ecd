"""A model of Triton's Python backend: raw inputs to typed results, its graph asked of another model of the server.

`zoo export --layout triton` writes a `model.py` that hands Triton's calls on to here, so that what runs in the server
is this code, and not a copy of it. Source: `python_backend` of triton-inference-server, its README's sections on
`TritonPythonModel` and on Business Logic Scripting. Needs what `polyzoo[serve]` brings, and no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np

from zoo import bundle, manifest
from zoo.errors import BundleError
from zoo.modalities.base import Array
from zoo.results import RowError, to_json
from zoo.runtime.model import BundleModel, Sessions
from zoo.runtime.opening import load
from zoo.runtime.raw import OWN_PARAMETERS, RESULT
from zoo.runtime.serve.inputs import Reader
from zoo.runtime.serve.refusals import Refusal, refusal_of
from zoo.runtime.serve.settings import Limits

if TYPE_CHECKING:
    from zoo.bundle import Card
    from zoo.runtime.session import Device

GRAPH = "graph"  # the parameter of config.pbtxt that names the model of the graph


@final
class TritonModel:
    """One instance of a model. args: what Triton gives to `initialize`; folder: the bundle, without its graph where
    that is a model of its own."""

    def __init__(self, folder: Path, args: Mapping[str, str]) -> None:
        import triton_python_backend_utils

        self._triton: Any = triton_python_backend_utils
        config = json.loads(args["model_config"])
        graph = config.get("parameters", {}).get(GRAPH, {}).get("string_value")
        self._rows = int(config["max_batch_size"])
        if graph:
            manifest.verify(folder)
            card = bundle.read_card(folder)
            session = cast(Sessions, _Asked(self._triton, graph, card))
            self.model = BundleModel(folder, card, session)
        else:
            device: Device = "cuda" if args.get("model_instance_kind") == "GPU" else "cpu"
            self.model = load(folder, device=device, packed=True)
        self._reader = Reader(self.model, Limits(max_rows=self._rows))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request, in order. Those with the same options are answered in one go."""
        responses: list[Any] = [None] * len(requests)
        alike: dict[str, list[tuple[int, list[Any], dict[str, Any]]]] = {}
        for place, request in enumerate(requests):
            try:
                key, options = self._reader.options(_options(request))
                alike.setdefault(key, []).append((place, self._read(request), options))
            except Exception as error:
                responses[place] = self._refused(error)
        for together in alike.values():
            for place, response in self._answer(together):
                responses[place] = response
        return responses

    def _read(self, request: Any) -> list[Any]:
        tensor = self._triton.get_input_tensor_by_name(request, self._reader.kind)
        raws, _ = self._reader.rows([self._reader.element(element) for element in tensor.as_numpy().ravel().tolist()])
        return raws

    def _answer(self, together: Sequence[tuple[int, list[Any], dict[str, Any]]]) -> list[tuple[int, Any]]:
        raws, options = [raw for _, rows, _ in together for raw in rows], together[0][2]
        try:
            # No more rows than the model of the graph takes at once.
            results = iter(self.model.predict(raws, batch_size=self._rows, on_error="return", **options))
        except Exception as error:
            return [(place, self._refused(error)) for place, _, _ in together]
        return [(place, self._response([next(results) for _ in rows])) for place, rows, _ in together]

    def _response(self, results: Sequence[Any]) -> Any:
        for row, result in enumerate(results):
            if isinstance(result, RowError):
                return self._refused(Refusal(400, f"Element {row}: {result.message}"))
        texts = [json.dumps(to_json(result), allow_nan=False, separators=(",", ":")) for result in results]
        array = np.array([text.encode() for text in texts], dtype=np.object_).reshape(-1, 1)
        return self._triton.InferenceResponse(output_tensors=[self._triton.Tensor(RESULT, array)])

    def _refused(self, error: Exception) -> Any:
        """A client is told what it did wrong; what is ours goes to Triton's log, and names nothing."""
        kinds, refusal = self._triton.TritonError, refusal_of(error)
        if refusal is not None:
            return self._triton.InferenceResponse(error=kinds(refusal.message, kinds.INVALID_ARG))
        self._triton.Logger.log_error(f"zoo: {type(error).__name__}: {error}")
        return self._triton.InferenceResponse(
            error=kinds("An internal error; the server's log has it.", kinds.INTERNAL)
        )


@final
class _Asked:
    """A graph as a session: run by the model of the server that has it, in batches of that model's own."""

    device: Device = "cpu"  # of what comes back, wherever it was computed

    def __init__(self, triton: Any, name: str, card: Card) -> None:
        self._triton = triton
        self._name = name
        self._inputs = [item.name for item in card.inputs]
        self._outputs = [item.name for item in card.outputs]
        # A number a row travels as [B, 1]: Triton's configuration has no other way to say it.
        self._flat = {item.name for item in (*card.inputs, *card.outputs) if len(item.shape) == 1}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays `[B, ...]` in, arrays `[B, ...]` out, by name."""
        triton = self._triton
        response = triton.InferenceRequest(
            model_name=self._name,
            requested_output_names=self._outputs,
            inputs=[triton.Tensor(name, self._sent(name, inputs[name])) for name in self._inputs],
            preferred_memory=triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if response.has_error():
            raise BundleError(f"The model {self._name!r} of this server failed: {response.error().message()}")
        found = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        return {name: found[name].ravel() if name in self._flat else found[name] for name in self._outputs}

    def _sent(self, name: str, array: Array) -> Array:
        return np.ascontiguousarray(array[:, None] if name in self._flat else array)


def _options(request: Any) -> dict[str, Any]:
    """The request's parameters, but those of the protocol's own."""
    given = json.loads(request.parameters() or "{}")
    return {name: value for name, value in given.items() if name not in OWN_PARAMETERS}
