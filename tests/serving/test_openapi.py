"""Requests that schemathesis makes from the OpenAPI document: none is our fault, each answer is one that it states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo.runtime.serve import App, Limits, Settings

schemathesis = pytest.importorskip("schemathesis")

# The document says less of an input than its model does: what it allows may be refused, and a form takes any field.
_UNSAID = ("positive_data_acceptance", "negative_data_rejection")
_EXAMPLES = 10


@pytest.fixture
def schema(bundles: dict[str, Path]) -> Iterator[Any]:
    from schemathesis.config import SchemathesisConfig
    from schemathesis.python.asgi import shutdown_lifespans

    app = App([bundles[name] for name in ("tagger", "animals", "writer")], Settings(limits=Limits(max_new_tokens=8)))
    headers = {"Host": "localhost"}
    config = SchemathesisConfig.from_dict(
        {
            "headers": headers,
            "seed": 0,
            "generation": {"max-examples": _EXAMPLES, "deterministic": True},
            "checks": {name: {"enabled": False} for name in _UNSAID},
        }
    )
    try:
        yield schemathesis.openapi.from_asgi("/openapi.json", app, config=config, headers=headers)
    finally:
        shutdown_lifespans()


def test_no_request_that_the_document_leads_to_is_a_fault_of_the_server(schema: Any) -> None:
    from schemathesis.engine import events, from_schema

    found: list[str] = []
    statuses: Counter[int] = Counter()
    asked: set[str] = set()
    for event in from_schema(schema).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            asked |= {case.value.operation.label for case in event.recorder.cases.values()}
            statuses.update(i.response.status_code for i in event.recorder.interactions.values() if i.response)
            found += [
                f"{check.name}: {check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info is not None
            ]
    assert not found, "\n\n".join(found)
    assert len(asked) == 15
    assert {200, 400, 404, 405, 415} <= set(statuses)
    assert max(statuses) < 500
