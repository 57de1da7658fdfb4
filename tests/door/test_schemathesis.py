"""Schemathesis, an unmodified tester of OpenAPI documents, against the served project: requests that the document allows, and
requests that it does not, are answered as it says.

Not asked of it: that every request that the document allows is taken (`positive_data_acceptance`), for no document says which
assets a project has and what their columns are; and streams that are followed for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.door.conftest import PROJECT, TOKEN, Front, served
from tidemill.server.openapi import document

JOBS = {"totals_by_id": "-- mode: realtime\nselect id, sum(amount) as amount from orders group by id\n"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 25


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("schemathesis") / "project", PROJECT, jobs=JOBS) as front:
        front.post("orders", {"id": "known", "amount": 1})
        yield front


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Values as lines of JSON; what is no list as one line, or as it is."""
    if isinstance(value, bytes):
        return value
    return b"\n".join(json.dumps(each).encode() for each in (value if isinstance(value, list) else [value]))


schema = schemathesis.openapi.from_dict(document())

few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def look(case: schemathesis.Case, front: Front) -> None:
    """Ask, and compare the answer with the document. What is followed has no end."""
    if str((case.query or {}).get("follow", "")) != "true":
        headers = {"Authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(base_url=f"http://{front.address}", checks=CHECKS, headers=headers, timeout=20)


@schema.parametrize()
@few
def test_whatever_is_named_is_answered_as_described(case: schemathesis.Case, front: Front) -> None:
    look(case, front)


KNOWN = {"asset": "orders", "name": "github"}


@schema.include(path_regex="[{]").parametrize()
@few
def test_what_there_is_answers_as_described(case: schemathesis.Case, front: Front) -> None:
    case.path_parameters = {name: KNOWN[name] for name in case.path_parameters or {}}
    look(case, front)
