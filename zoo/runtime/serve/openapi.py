"""The OpenAPI document of a server: its routes, and the models that it holds now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import zoo
from zoo.runtime.serve.settings import Limits

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}
_REFUSED = {
    "400": "What was sent can't be used.", "401": "A bearer token is needed.", "404": "No such model.",
    "408": "The body was too slow.", "413": "More than is allowed.", "415": "Of a type that is not taken.",
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
            "inputs": {"description": "One input, or a list of them: a text, an object by column, a file as base64."},
            "options": {"type": "object", "description": "Of predict(), by the model's task."},
            "on_error": {"enum": ["raise", "return"], "default": "raise"},
        },
    },
    "Form": {
        "type": "object",
        "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}, "options": _TEXT},
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
            "inputs": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Tensor"}},
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
    "Ready": {"type": "object", "properties": {"ready": {"type": "boolean"}, "live": {"type": "boolean"}}},
    "Any": {},
}
# By route: what it is for, the body's schema by media type, the answer's schema and media type.
_ROUTES: dict[str, tuple[str, dict[str, str], str, str]] = {
    "/": ("A page to try the models on.", {}, "Any", "text/html"),
    "/openapi.json": ("This document.", {}, "Any", "application/json"),
    "/metrics": ("Figures for Prometheus.", {}, "Any", "text/plain"),
    "/predict/{name}": (
        "Texts, rows or files to typed results.",
        {"application/json": "Question", "multipart/form-data": "Form"}, "Answer", "application/json",
    ),
    "/predict/{name}/stream": (
        "A text as it is generated: events with a text, then `end` with the result, or `error`.",
        {"application/json": "Question"}, "Any", "text/event-stream",
    ),
    "/v2": ("The server.", {}, "Any", "application/json"),
    "/v2/health/live": ("Whether the process answers.", {}, "Ready", "application/json"),
    "/v2/health/ready": ("Whether every model is warmed up.", {}, "Ready", "application/json"),
    "/v2/models/{name}": ("A model's tensors, labels and options.", {}, "Any", "application/json"),
    "/v2/models/{name}/ready": ("Whether a model is warmed up.", {}, "Ready", "application/json"),
    "/v2/models/{name}/infer": (
        "Tensors, or a raw input as BYTES, by the Open Inference Protocol v2.",
        {"application/json": "InferRequest"}, "InferResponse", "application/json",
    ),
    "/v2/repository/index": ("The models and their states.", {}, "Any", "application/json"),
    "/v2/repository/models/{name}/load": ("Load a bundle again from its folder.", {}, "Any", "application/json"),
}  # fmt: skip


def document(
    routes: Iterable[tuple[str, str]], models: Iterable[str], limits: Limits, *, token: bool
) -> dict[str, Any]:
    """routes: method and path of each. models: the names that may stand for {name}."""
    names = list(models)
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
        "components": {"schemas": _SCHEMAS, **({"securitySchemes": schemes} if token else {})},
        **({"security": [{"token": []}]} if token else {}),
    }


def _operation(method: str, path: str, names: list[str]) -> dict[str, Any]:
    purpose, bodies, answer, kind = _ROUTES[path.replace("/versions/{version}", "")]
    found = {"description": "Done.", "content": {kind: {"schema": _ref(answer)}}}
    refused = {"application/json": {"schema": _ref("Error")}}
    return {
        "summary": purpose,
        "operationId": method.lower() + "".join(part.strip("{}").title() for part in path.split("/")) or "page",
        "parameters": [*_parameter(path, "name", names), *_parameter(path, "version", ["1"])],
        **({"requestBody": _body(bodies)} if bodies else {}),
        "responses": {
            "200": found,
            **{status: {"description": text, "content": refused} for status, text in _REFUSED.items()},
        },
    }


def _parameter(path: str, name: str, values: list[str]) -> list[dict[str, Any]]:
    schema = {"type": "string", "enum": values}
    return [{"name": name, "in": "path", "required": True, "schema": schema}] if f"{{{name}}}" in path else []


def _body(bodies: dict[str, str]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": _ref(name)} for kind, name in bodies.items()}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
