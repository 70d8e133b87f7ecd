"""The OpenAPI document of a server: its routes, and the models that it holds now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import zoo
from zoo.runtime.serve.settings import Limits

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
_REFUSED = {
    "400": "What was sent can't be used.", "401": "A bearer token is needed.",
    "403": "A page of another site asked.", "404": "No such model.", "408": "The body was too slow.",
    "409": "The bundle can't be loaded again; the old one goes on.", "413": "More than is allowed.",
    "415": "Of a type that is not taken.", "421": "Without a token, localhost alone is answered.",
    "429": "Too much waits for this model; see Retry-After.", "500": "An internal error.",
    "503": "Not ready, too busy, or too late; see Retry-After.",
}  # fmt: skip
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _TEXT,
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {
            "enum": [
                "BOOL",
                *(f"{u}INT{n}" for u in ("U", "") for n in (8, 16, 32, 64)),
                "FP16",
                "FP32",
                "FP64",
                "BYTES",
            ]
        },
        "parameters": _OBJECT,
        "data": {"type": "array"},
    },
}
_SCHEMAS: dict[str, Any] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
    "Tensor": _TENSOR,
    "Question": {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "inputs": {
                "description": "One input, or a list of them: a text, an object by column, a file as base64.",
                "anyOf": [_TEXT, _OBJECT, {"type": "array", "minItems": 1}],
                "examples": ["Ada Lovelace lives in London.", ["Ada", "Bob"]],
            },
            "options": {"$ref": "#/components/schemas/Options"},
            "on_error": {"enum": ["raise", "return"], "default": "raise"},
        },
    },
    "Form": {
        "type": "object",
        "properties": {
            "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "options": {"type": "string", "description": "A JSON object.", "examples": ["{}"]},
        },
    },
    "Answer": {
        "type": "object",
        "required": ["model", "task"],
        "properties": {
            "model": _TEXT,
            "task": _TEXT,
            "result": {"description": "Of one input: a typed result."},
            "results": {"type": "array", "description": "Of a list, in the order given."},
        },
        "oneOf": [{"required": ["result"]}, {"required": ["results"]}],
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "parameters": _OBJECT,
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/components/schemas/Tensor"},
                "examples": [[{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Ada Lovelace"]}]],
            },
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "Binary": {
        "type": "string",
        "format": "binary",
        "description": "JSON, then the tensors' bytes, by the binary extension.",
    },
    "Ready": {"type": "object", "properties": {"ready": {"type": "boolean"}, "live": {"type": "boolean"}}},
    "Any": {},
}
_HEADER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Of a binary body: the bytes of its JSON.",
    "schema": {"type": "integer", "minimum": 0},
}
_OPTIONS = {
    "type": "object",
    "description": "Of predict(), by the model's task. GET /v2/models/{name} lists a model's.",
}
# By route: what it is for, the schemas of the body and of the answer by media type.
_ROUTES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "/": ("A page to try the models on.", {}, {"text/html": "Any"}),
    "/openapi.json": ("This document.", {}, {"application/json": "Any"}),
    "/metrics": ("Figures for Prometheus.", {}, {"text/plain": "Any"}),
    "/predict/{name}": (
        "Texts, rows or files to typed results.",
        {"application/json": "Question", "multipart/form-data": "Form"}, {"application/json": "Answer"},
    ),
    "/predict/{name}/stream": (
        "A text as it is generated: events with a text, then `end` with the result, or `error`.",
        {"application/json": "Question"}, {"text/event-stream": "Any"},
    ),
    "/v2": ("The server.", {}, {"application/json": "Any"}),
    "/v2/health/live": ("Whether the process answers.", {}, {"application/json": "Ready"}),
    "/v2/health/ready": ("Whether every model is warmed up.", {}, {"application/json": "Ready"}),
    "/v2/models/{name}": ("A model's tensors, labels and options.", {}, {"application/json": "Any"}),
    "/v2/models/{name}/ready": ("Whether a model is warmed up.", {}, {"application/json": "Ready"}),
    "/v2/models/{name}/infer": (
        "Tensors, or a raw input as BYTES, by the Open Inference Protocol v2.",
        {"application/json": "InferRequest", "application/octet-stream": "Binary"},
        {"application/json": "InferResponse", "application/octet-stream": "Binary"},
    ),
    "/v2/repository/index": ("The models and their states.", {}, {"application/json": "Any"}),
    "/v2/repository/models/{name}/load": ("Load a bundle again from its folder.", {}, {"application/json": "Any"}),
}  # fmt: skip


def document(
    routes: Iterable[tuple[str, str]], models: Mapping[str, Iterable[str]], limits: Limits, *, token: bool
) -> dict[str, Any]:
    """routes: method and path of each. models: the names that may stand for {name}, and the options that each takes."""
    names = list(models)
    options: dict[str, Any] = {name: {} for taken in models.values() for name in taken}
    paths: dict[str, Any] = {}
    for method, path in routes:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, names)
    schemes = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "polyzoo",
            "version": zoo.__version__,
            "description": f"Bodies up to {limits.max_body_mb:g} MB, {limits.max_rows} inputs in one request.",
        },
        "paths": paths,
        "components": {
            "schemas": {**_SCHEMAS, "Options": _OPTIONS | {"properties": options}},
            **({"securitySchemes": schemes} if token else {}),
        },
        **({"security": [{"token": []}]} if token else {}),
    }


def _operation(method: str, path: str, names: list[str]) -> dict[str, Any]:
    purpose, bodies, answers = _ROUTES[path.replace("/versions/{version}", "")]
    refused = {"application/json": {"schema": _ref("Error")}}
    return {
        "summary": purpose,
        "operationId": method.lower() + "".join(part.strip("{}").title() for part in path.split("/")) or "page",
        "parameters": [
            *_parameter(path, "name", names),
            *_parameter(path, "version", ["1"]),
            *([_HEADER] if "Binary" in bodies.values() else []),
        ],
        **({"requestBody": {"required": True, "content": _content(bodies)}} if bodies else {}),
        "responses": {
            "200": {"description": "Done.", "content": _content(answers)},
            **{status: {"description": text, "content": refused} for status, text in _REFUSED.items()},
        },
    }


def _parameter(path: str, name: str, values: list[str]) -> list[dict[str, Any]]:
    schema = {"type": "string", "enum": values}
    return [{"name": name, "in": "path", "required": True, "schema": schema}] if f"{{{name}}}" in path else []


def _content(schemas: dict[str, str]) -> dict[str, Any]:
    return {kind: {"schema": _ref(name)} for kind, name in schemas.items()}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
