"""Tracking messages, as Segment's clients send them, become lines: pure, bytes in, lines out.

Rules of this file:
  * what happened is kept as it was written; what only says how it was delivered (sentAt) is used and not kept;
  * `event_time` is the sender's time corrected by how wrong the sender's clock was when it sent: `received_at` less
    what lay between the message and its sending. The sender's own time stays beside it as `original_timestamp`, and
    alone counts when a message comes again;
  * traits of people and groups are `properties`; what only one type of message has (`group_id`, `previous_id`, `name`,
    `category`) is kept, and is a column where the topic declares one.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tidemill.core.errors import UserError
from tidemill.core.model import Asset
from tidemill.core.ports import Refusal
from tidemill.server.chunks import Chunk
from tidemill.server.lines import members_of, on_one_line

__all__ = ["TYPES", "Message", "chunk_for", "messages_in"]

TYPES = ("track", "identify", "page", "screen", "group", "alias")

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_NULL = b"null"
_KEPT = {"groupId": "group_id", "previousId": "previous_id", "name": "name", "category": "category"}


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its type and its line; or, with a `reason`, why it is none (its line is then what was sent)."""

    type: str
    line: bytes
    reason: str = ""


def messages_in(body: bytes, type_: str, received_at: float) -> list[Message]:
    """The messages of a request to `/v1/batch` (`type_` "") or to a type's own address.

    Raises UserError where the body is no JSON object, or holds no batch.
    """
    whole = _members(body)
    if type_:
        return [_message(body, {}, type_, received_at)]
    batch = whole.get("batch")
    if batch is None:
        raise UserError("the request has no batch", mend='send {"batch": [...]}')
    shared: dict[str, msgspec.Raw] = {name: whole[name] for name in ("context", "sentAt") if name in whole}
    return [_message(member, shared, "", received_at) for member in members_of(bytes(batch))]


def _members(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"this is not a JSON object: {error}", mend="send valid JSON") from None


def _message(text: bytes, shared: Mapping[str, msgspec.Raw], type_: str, received_at: float) -> Message:
    try:
        said = {**shared, **_members(text)}
    except UserError as error:
        return Message("", text, error.message)
    found = type_ or _text(said.get("type")) or ""
    if found not in TYPES:
        return Message("", text, f'"{found}" is not a type of message: it is one of {", ".join(TYPES)}')
    return Message(found, on_one_line(_encode(_line(said, found, received_at))))


def _line(said: Mapping[str, msgspec.Raw], type_: str, received_at: float) -> dict[str, Any]:
    line: dict[str, Any] = {
        "message_id": said.get("messageId") or str(uuid.uuid4()),
        "type": type_,
        "event": said.get("event"),
        "user_id": said.get("userId"),
        "anonymous_id": said.get("anonymousId"),
        "event_time": _event_time(said, received_at),
        "original_timestamp": said.get("originalTimestamp", said.get("timestamp")),
        "received_at": _written(received_at),
        "properties": said.get("properties", said.get("traits")),
        "context": said.get("context"),
    }
    line |= {name: said[sent] for sent, name in _KEPT.items() if sent in said}
    return line


def _event_time(said: Mapping[str, msgspec.Raw], received_at: float) -> Any:
    """When it happened; a time that cannot be read stays as it is, so that the topic's contract says so."""
    written = said.get("timestamp", said.get("originalTimestamp"))
    if written is None or bytes(written) == _NULL:
        return _written(received_at)
    happened, sent = _moment(_text(written)), _moment(_text(said.get("sentAt")))
    if happened is None:
        return written
    try:
        return _written(received_at - (sent - happened) if sent is not None else happened)
    except (OverflowError, ValueError, OSError):
        return written


def _text(raw: msgspec.Raw | None) -> str | None:
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str) else None


def _moment(text: str | None) -> float | None:
    """Seconds since the epoch of an ISO 8601 time; without an offset it is UTC."""
    try:
        moment = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _written(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()


def chunk_for(asset: Asset, messages: Iterable[Message]) -> Chunk:
    """What of these messages a topic takes: all types, or those its `tracking` lists; what is none is refused."""
    wanted = asset.options["tracking"]
    lines: list[bytes] = []
    places: list[int] = []
    refused: list[Refusal] = []
    for place, message in enumerate(messages):
        if message.reason:
            refused.append(Refusal(place, message.reason, message.line.decode(errors="replace")))
        elif wanted is True or (isinstance(wanted, list) and message.type in wanted):
            lines.append(message.line)
            places.append(place)
    return Chunk(b"\n".join(lines), len(lines), places, tuple(refused))
