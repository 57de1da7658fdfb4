"""The OpenAPI document is true: it has the routes that there are, and their answers are as it says, whatever is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from starlette.routing import Route

from tests.cli.fake import FakeMill
from tests.door.conftest import PROJECT, TOKEN, Answer, Front, served
from tidemill.server.app import create_app
from tidemill.server.openapi import document

DOCUMENT = document()
REGISTRY = Registry().with_resource("doc", Resource(DOCUMENT, DRAFT202012))
OF_OTHER_PROCESSES = {"/v1/owner"}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    jobs = {"totals_by_id": "-- mode: realtime\nselect id, sum(amount) as amount from orders group by id\n"}
    with served(tmp_path_factory.mktemp("described") / "project", PROJECT, jobs=jobs) as front:
        yield front


def check(path: str, method: str, answer: Answer) -> None:
    """Raise where an answer is not one of those that the document has for it."""
    operation = DOCUMENT["paths"][path][method.lower()]
    status = str(answer.status)
    assert status in operation["responses"], (path, status, answer.body)
    contents = operation["responses"][status]["content"]
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in contents, (path, status, media_type)
    if media_type == "application/json":
        validate(contents[media_type]["schema"], json.loads(answer.body))


def validate(schema: Any, value: Any) -> None:
    pointed = json.loads(json.dumps(schema).replace('"#/', '"doc#/'))
    Draft202012Validator(pointed, registry=REGISTRY).validate(value)


def test_the_document_has_the_routes_that_there_are() -> None:
    routes = create_app(FakeMill(), token="x").pages.routes
    there = {(route.path, method) for route in routes if isinstance(route, Route) for method in route.methods or ()}
    there = {(path, method.lower()) for path, method in there if method != "HEAD" and path not in OF_OTHER_PROCESSES}
    assert there == {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_the_document_is_served_and_each_schema_is_one(described: Front) -> None:
    answer = described.ask("GET", "/openapi.json")
    assert answer.json == json.loads(json.dumps(DOCUMENT))
    assert answer.json["openapi"] == "3.1.0"
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_path_parameter_is_declared() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path


PLAIN = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods and "{" not in path]


@pytest.mark.parametrize("path", PLAIN)
def test_what_is_asked_plainly_is_answered_as_described(described: Front, path: str) -> None:
    described.post("orders", {"id": "described", "amount": 1})
    answer = described.ask("GET", path)
    assert answer.status == 200
    check(path, "get", answer)


@pytest.mark.parametrize(
    ("query", "body", "headers", "status"),
    [
        ("", '[{"id": "a", "amount": 1}, {"id": "a", "amount": 2}, {"id": 5, "amount": "x"}]', {}, 202),
        ("?wait=totals_by_id", '{"id": "w", "amount": 1}', {}, 200),
        ("?wait=totals_by_id&timeout_ms=0", '{"id": "t", "amount": 1}', {}, 202),
        ("", '[{"id": "b", "amount": "x"}]', {"Prefer": "handling=strict"}, 422),
        ("", "x" * 3_000_001, {}, 413),
        ("", "{}", {"Content-Type": "text/xml"}, 415),
        ("?x=1", "{}", {}, 400),
    ],
)
def test_answers_to_events_are_as_described(
    described: Front, query: str, body: str, headers: dict[str, str], status: int
) -> None:
    answer = described.ask("POST", f"/v1/assets/orders/events{query}", body, **headers)
    assert answer.status == status
    check("/v1/assets/{asset}/events", "post", answer)


TEXT = st.text(max_size=12)
NAMES = st.sampled_from(["orders", "totals_by_id", "outside", "site", "github", "no", "ordres"]) | TEXT.filter(bool)
WORDS = st.sampled_from(
    ["limit", "offset", "columns", "from", "follow", "id", "amount.gt", "wait", "timeout_ms", "job"]
)
QUERIES = st.dictionaries(WORDS | TEXT, st.integers().map(str) | TEXT | st.sampled_from(["now", "id"]), max_size=3)
TYPES = st.sampled_from(["", "application/json", "application/x-ndjson", "application/cloudevents+json", "image/png"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "amount", "batch", "type", "messageId", "data", "jobs"]) | TEXT, inner)
    ),
    max_leaves=8,
)
BODIES = st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())
GETS = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods]
POSTS = [path for path, methods in DOCUMENT["paths"].items() if "post" in methods]

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def address(path: str, name: str, query: dict[str, str]) -> str:
    filled = path.replace("{asset}", quote(name, safe="")).replace("{name}", quote(name, safe=""))
    return f"{filled}?{urlencode(query, errors='replace')}" if query else filled


@many
@given(st.sampled_from(GETS), NAMES, QUERIES)
@example("/v1/assets/{asset}/rows", "orders", {"amount.gt": "x"})
@example("/v1/assets/{asset}/changes", "outside", {"from": "0"})
def test_whatever_is_asked_is_answered_as_described(
    described: Front, path: str, name: str, query: dict[str, str]
) -> None:
    if query.get("follow") == "true" or "/" in name or name in (".", ".."):
        return
    answer = described.ask("GET", address(path, name, query))
    check(path, "get", answer)


@many
@given(st.sampled_from(POSTS), NAMES, BODIES, TYPES)
@example("/v1/operations/{name}", "run", b'{"jobs": ["nothing"]}', "")
@example("/v1/operations/{name}", "query", b'{"sql": "drop table orders"}', "")
def test_whatever_is_sent_is_answered_as_described(
    described: Front, path: str, name: str, body: bytes, media_type: str
) -> None:
    if "/" in name or name in (".", ".."):
        return
    headers = {"Content-Type": media_type} if media_type else {}
    owner = {"Authorization": f"Bearer {TOKEN}"} if "operations" in path else {}
    answer = described.ask("POST", address(path, name, {}), body, **headers, **owner)
    check(path, "post", answer)
    assert answer.status != 500
