"""What the server answers, as an OpenAPI 3.1 document: written once, here, and held against the routes by a test.

Rules of this file:
  * a route that users may call stands here, with what it takes and every status it answers;
  * schemas say what is always there; what depends on a project (columns) is an open object.
"""

from __future__ import annotations

from typing import Any

from tidemill import __version__
from tidemill.project.asking import CONDITIONS
from tidemill.server.rows import ARROW

__all__ = ["document"]

Schema = dict[str, Any]

_ANY: Schema = {}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SECONDS: Schema = {"type": ["number", "null"]}
_TEXT: Schema = {"type": "string"}
_COLUMNS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_ROWS: Schema = {"type": "array", "items": {"type": "object"}}
_EVENTS: Schema = {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}

_REFUSALS = {
    "400": "The request is wrong; the error says what and how to mend it.",
    "401": "A key is needed, or the signature is not the sender's.",
    "403": "The key may not do this, or the host or origin may not ask.",
    "404": "There is no such asset, hook or address.",
    "408": "The body paused too long.",
    "409": "The topic is stopped at an event it cannot take, or the request of this key is still being worked on.",
    "410": "The history that was asked for is trimmed away: begin again from 0.",
    "413": "The body is too large.",
    "414": "The address is too long.",
    "415": "The type or the encoding of the body is not read here.",
    "422": "A batch that was to be taken whole cannot be, or an idempotency key came with another body.",
    "429": "There is no room now, or the key asks too often: come again after Retry-After.",
    "431": "The headers are too many or too long.",
    "503": "The disk is full, the server is closing, or a secret is not set: nothing was acknowledged.",
}


def _object(*, needs: str = "", **fields: Schema) -> Schema:
    required = needs.split() if needs else list(fields)
    return {"type": "object", "properties": fields, "required": required}


def _listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Schema] = {
    "Error": _object(error=_object(kind=_TEXT, message=_TEXT, place=_TEXT, mend=_TEXT)),
    "Result": _object(index=_COUNT, status={"enum": ["parked", "duplicate", "refused"]}, reason=_TEXT, column=_TEXT),
    "Taken": _object(
        needs="accepted duplicate parked results",
        accepted=_COUNT,
        duplicate=_COUNT,
        parked=_COUNT,
        results=_listed(_ref("Result")),
        results_left_out=_COUNT,
        warning=_TEXT,
        undeclared=_listed(_TEXT),
        link=_TEXT,
    ),
    "Produced": {"allOf": [_ref("Taken"), _object(asset=_TEXT, rows=_ROWS)]},
    "Tracked": _object(success={"const": True}, topics={"type": "object", "additionalProperties": _ref("Taken")}),
    "Asset": _object(
        needs="asset kind columns key writer readers",
        asset=_TEXT,
        kind=_TEXT,
        columns=_COLUMNS,
        schema={"enum": ["strict", "evolve", "ignore"]},
        ranges={"type": "object"},
        versions=_listed(_object(version=_COUNT, since=_COUNT, columns=_COLUMNS)),
        key=_listed(_TEXT),
        writer={"type": ["string", "null"]},
        readers=_listed(_TEXT),
    ),
    "Job": _object(
        job=_TEXT, mode=_TEXT, state=_TEXT, lag_changes=_COUNT, lag_seconds=_SECONDS, freshness_seconds=_SECONDS
    ),
    "Mapped": _object(job=_TEXT, inputs=_listed(_TEXT), outputs=_listed(_TEXT), mode=_TEXT),
    "Run": _object(
        needs="run job state attempt inputs started_at finished_at rows_in rows_out error",
        run=_TEXT,
        job=_TEXT,
        state=_TEXT,
        attempt=_COUNT,
        inputs={"type": "object", "additionalProperties": _listed(_COUNT)},
        started_at={"type": "number"},
        finished_at=_SECONDS,
        rows_in=_COUNT,
        rows_out=_COUNT,
        traceparents=_listed(_TEXT),
        error=_TEXT,
    ),
    "Status": _object(
        assets=_listed(_object(asset=_TEXT, kind=_TEXT, head=_COUNT, rows=_COUNT, freshness_seconds=_SECONDS)),
        jobs=_listed(_ref("Job")),
        alarms=_listed({"type": "object"}),
    ),
    "Change": _object(
        op={"enum": ["c", "u", "d", "r"]},
        offset=_COUNT,
        before={"type": ["object", "null"]},
        after={"type": ["object", "null"]},
        source={"type": "object"},
    ),
    "Health": _object(status=_TEXT),
}


def _in(place: str, name: str, schema: Schema, description: str) -> Schema:
    return {
        "name": name,
        "in": place,
        "schema": schema,
        "description": description,
        **({"required": True} if place == "path" else {}),
    }


def _json(schema: Schema, description: str, *more: str) -> Schema:
    types = ("application/json", *more)
    contents = {each: {"schema": schema if each == types[0] else _ANY} for each in types}
    return {"description": description, "content": contents}


def _operation(summary: str, answers: dict[str, Schema], refusals: str, **more: Any) -> Schema:
    refused = {code: _json(_ref("Error"), _REFUSALS[code]) for code in refusals.split()}
    return {"summary": summary, **more, "responses": {**answers, **refused}}


def _body(*types: str, schema: Schema = _ANY) -> Schema:
    return {"required": True, "content": {each: {"schema": schema} for each in types}}


_ASSET = _in("path", "asset", _TEXT, "The name of an asset.")
_LIMIT = _in("query", "limit", _COUNT, "At most so many.")
_KEY = _in("header", "Idempotency-Key", {"type": "string", "maxLength": 255}, "The same key again does nothing twice.")
_STRICT = _in("header", "Prefer", _TEXT, "handling=strict: take all events, or none.")
_TRACE = _in(
    "header", "traceparent", _TEXT, "W3C Trace Context: runs and dead letters name it; an invalid one is no error."
)
_READ = "401 403 404 414 429 431 503"
_SENT = "400 401 403 404 408 409 413 414 415 429 431 503"


def _reading(summary: str, schema: Schema, *parameters: Schema, refusals: str = _READ) -> Schema:
    return {"get": _operation(summary, {"200": _json(schema, summary)}, refusals, parameters=list(parameters))}


def _tracking(summary: str) -> Schema:
    answers = {"200": _json(_ref("Tracked"), "It is durable in every topic that takes it.")}
    return {"post": _operation(summary, answers, _SENT, requestBody=_body("application/json"))}


def _events() -> Schema:
    answers = {
        "202": _json(_ref("Taken"), "Durable. Lists every event that was not accepted, and why."),
        "200": _json(_ref("Produced"), "With `wait`: durable, and these rows came of it."),
    }
    types = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")
    body = _body(*types, schema=_EVENTS)
    body["content"]["application/x-ndjson"] = {"schema": _TEXT}
    parameters = [
        _ASSET,
        _in("query", "wait", _TEXT, "Answer with the rows that the events produce in this asset."),
        _in("query", "timeout_ms", {"type": "integer", "minimum": 0, "maximum": 60_000}, "How long to wait for them."),
        _KEY,
        _STRICT,
        _TRACE,
    ]
    summary = "Take events: an object, an array, lines of JSON, or CloudEvents; gzip and zstd are read"
    return {"post": _operation(summary, answers, f"{_SENT} 422", parameters=parameters, requestBody=body)}


def _rows() -> Schema:
    words = ", ".join(f".{word}" for word in CONDITIONS if word)
    page = [
        _LIMIT,
        _in("query", "offset", _COUNT, "Leave out so many first."),
        _in("query", "columns", _TEXT, "Only these columns, with commas between."),
        _in("query", "filter", {"type": "object"}, f"COLUMN=VALUE; COLUMN{words} compare.")
        | {"style": "form", "explode": True},
    ]
    answers = {"200": _json(_ROWS, "Rows in the order of the key; Link says where the next page is.", ARROW)}
    return {"get": _operation("Rows by key, filter and page", answers, f"400 {_READ}", parameters=[_ASSET, *page])}


def _changes() -> Schema:
    parameters = [
        _ASSET,
        _in("query", "from", _TEXT, "The offset after which to begin, or now; 0 is the rows that there are."),
        _in("query", "follow", {"enum": ["true", "false"]}, "Lines go on as changes come."),
        _LIMIT,
        _in("header", "Last-Event-ID", _TEXT, "Go on after the last event that was seen."),
    ]
    contents = {each: {"schema": _ref("Change")} for each in ("application/x-ndjson", "text/event-stream")}
    answers = {"200": {"description": "A change a line, or a server-sent event each.", "content": contents}}
    return {"get": _operation("Changes after an offset", answers, f"400 {_READ} 410", parameters=parameters)}


def _hook() -> Schema:
    name = _in("path", "name", _TEXT, "The name of a hook.")
    answers = {"202": _json(_ref("Taken"), "Signed by its sender, and durable.")}
    return {
        "post": _operation("Take a webhook", answers, _SENT, parameters=[name], security=[], requestBody=_body("*/*"))
    }


def _operating() -> Schema:
    name = _in("path", "name", _TEXT, "run, plan, apply, explain, mode, pause, resume, retry, cancel, query, ...")
    answers = {
        "200": _json(
            _ANY, "What the command of that name prints with --json; run answers line by line.", "application/x-ndjson"
        )
    }
    body = _body("application/json", schema={"type": "object"})
    refusals = f"400 {_READ} 409 413 422"
    return {"post": _operation("Do what a command does", answers, refusals, parameters=[name], requestBody=body)}


def _plain(path: str, summary: str, media_type: str) -> Schema:
    answers = {"200": {"description": summary, "content": {media_type: {"schema": _ANY}}}}
    return {"get": _operation(summary, answers, _READ, operationId=path.strip("/"))}


def _paths() -> dict[str, Schema]:
    types = {each: f"Take a {each} message" for each in ("track", "identify", "page", "screen", "group", "alias")}
    runs = [_in("query", name, _TEXT, f"Only those of this {name}.") for name in ("job", "state", "run")]
    return {
        "/v1/assets/{asset}/events": _events(),
        "/v1/assets/{asset}/rows": _rows(),
        "/v1/assets/{asset}/changes": _changes(),
        "/v1/hooks/{name}": _hook(),
        "/v1/batch": _tracking("Take tracking messages, as Segment's clients send them"),
        "/v1/import": _tracking("Take tracking messages of the past"),
        **{f"/v1/{name}": _tracking(summary) for name, summary in types.items()},
        "/v1/assets": _reading("Every asset", _listed(_ref("Asset"))),
        "/v1/assets/{asset}": _reading(
            "One asset, with the versions of its schema", _ref("Asset"), _ASSET, refusals=_READ
        ),
        "/v1/jobs": _reading("Every job", _listed(_ref("Job"))),
        "/v1/map": _reading("Which job reads and writes what", _listed(_ref("Mapped"))),
        "/v1/runs": _reading("Runs, newest first", _listed(_ref("Run")), *runs, _LIMIT, refusals=f"400 {_READ}"),
        "/v1/status": _reading("Lag, freshness and alarms", _ref("Status")),
        "/v1/operations/{name}": _operating(),
        "/metrics": _plain("/metrics", "Metrics for Prometheus", "text/plain"),
        "/openapi.json": _plain("/openapi.json", "This document", "application/json"),
        "/healthz": _reading("Whether the process answers", _ref("Health"), refusals="403 414 431"),
        "/readyz": _reading("Whether events are taken and handled", _ref("Health"), refusals="403 414 431 503"),
    }


def document() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tidemill",
            "version": __version__,
            "description": "Events in, rows and changes out. While no access key exists, this machine needs none.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {"write_key": []}],
        "paths": _paths(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "write_key": {"type": "http", "scheme": "basic", "description": "The key as the user, no password."},
            },
        },
    }
