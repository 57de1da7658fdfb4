"""Webhooks: `POST /v1/hooks/{name}`; what a sender signed lands in its topic once, under the sender's own event id.

Rules of this file:
  * the signature is the proof of who asks: no key and no host is asked for;
  * the payload is kept as it was written; what is not JSON is kept as text, for the sender has no other copy;
  * columns that the topic declares beside those it is given are filled from the payload's fields of that name.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tidemill.core.errors import NotFound, UserError
from tidemill.core.model import Asset
from tidemill.core.ports import Sending
from tidemill.project.hooks import Hook
from tidemill.project.serving import Served
from tidemill.server.answer import json_answer
from tidemill.server.body import Body, Room
from tidemill.server.chunks import Chunk
from tidemill.server.committer import Committer
from tidemill.server.lines import on_one_line
from tidemill.server.outcome import Outcome
from tidemill.server.signatures import SCHEMES, Scheme, verify
from tidemill.server.tracing import traceparent_in

__all__ = ["Hooks"]

_JSON = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_FORM = "application/x-www-form-urlencoded"

Fields = Mapping[str, msgspec.Raw]


class Hooks:
    """The endpoint of all hooks."""

    def __init__(self, served: Served, committer: Committer, room: Room) -> None:
        self._served = served
        self._committer = committer
        self._room = room

    async def __call__(self, request: Request) -> Response:
        """Take one call."""
        name = request.path_params["name"]
        hook = self._served.hooks.get(name)
        if hook is None:
            raise NotFound(f"there is no hook {name}", mend=f"declare it: [hooks.{name}] in tidemill.toml")
        outcome = Outcome(self._room.limits.results_max)
        body = Body(request.receive, request.headers, self._room)
        try:
            sent = await body.whole()
            verify(hook, request.headers, sent, time.time())
            topic = self._served.asset(hook.asset)
            line = _line(hook, topic, request.headers, sent)
            traced = traceparent_in(request.scope["headers"])
            receipt = await self._committer.commit(Sending(topic, line, 1, traceparent=traced))
        finally:
            body.release()
        outcome.add(receipt, Chunk(line, 1))
        return json_answer(outcome.value(), 202)


def _line(hook: Hook, topic: Asset, headers: Mapping[str, str], body: bytes) -> bytes:
    """The event of a call."""
    scheme = SCHEMES[hook.scheme]
    payload = _payload(headers, body)
    fields = _fields(payload)
    event: dict[str, Any] = {
        "hook": hook.name,
        "event_id": _found(scheme.id, headers, fields),
        "type": _found(scheme.type, headers, fields),
        "event_time": _time(scheme, headers, fields),
        "received_at": _written(time.time()),
        "payload": payload,
    }
    if not event["event_id"]:
        raise UserError(f"the call has no id ({scheme.id})", mend=f"send it as {hook.scheme} does")
    declared = {column.name for column in topic.columns}
    own = {name: value for name, value in fields.items() if name in declared and name not in event}
    return on_one_line(_encode({**own, **event}))


def _payload(headers: Mapping[str, str], body: bytes) -> msgspec.Raw:
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        body = parse_qs(body.decode(errors="replace")).get("payload", [""])[0].encode() or body
    try:
        body.decode()
        return _JSON.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        return msgspec.Raw(_encode(body.decode(errors="replace")))


def _fields(payload: msgspec.Raw) -> Fields:
    try:
        return _OBJECT.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _found(where: str, headers: Mapping[str, str], fields: Fields) -> Any:
    """What stands in a header or in a field of the body; None where there is nothing."""
    kind, _, name = where.partition(" ")
    if kind == "header":
        return headers.get(name)
    raw = fields.get(name)
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _time(scheme: Scheme, headers: Mapping[str, str], fields: Fields) -> str | None:
    """When it happened, where the sender says so: ISO 8601, or seconds since 1970."""
    said = _found(scheme.time, headers, fields)
    try:
        return _written(said) if isinstance(said, int) else dt.datetime.fromisoformat(said or "").isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _written(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
