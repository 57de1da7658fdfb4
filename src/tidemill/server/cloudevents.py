"""CloudEvents 1.0 over HTTP, in their three modes: binary (headers), structured and batch (JSON).

Rules of this file:
  * an event's identity is its source and its id together, as the specification says: `SOURCE ID`, one blank between;
  * a topic with `cloudevents = true` keeps the attributes and the data; any other topic takes the data as the event,
    and gets the identity and the time only where its own columns for them are not in the data;
  * data is kept as it is written; what is not JSON becomes text, or base64 where it is not UTF-8.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from tidemill.core.errors import UserError
from tidemill.core.model import Asset
from tidemill.server.lines import on_one_line

__all__ = ["BATCH_TYPE", "STRUCTURED_TYPE", "NotAnEvent", "attribute", "from_headers", "from_json", "is_binary"]

STRUCTURED_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"

_PREFIX = "ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_JSON = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode

Attributes = dict[str, Any]


class NotAnEvent(UserError):
    """What came is no CloudEvent 1.0."""


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether the headers carry an event's attributes."""
    return f"{_PREFIX}specversion" in headers


def from_headers(headers: Mapping[str, str], body: bytes, asset: Asset) -> bytes:
    """The line of an event in binary mode. Raises NotAnEvent."""
    attributes: Attributes = {
        name.removeprefix(_PREFIX): unquote(value) for name, value in headers.items() if name.startswith(_PREFIX)
    }
    media_type = headers.get("content-type", "")
    if media_type:
        attributes["datacontenttype"] = media_type
    return _line(attributes, _data(body, media_type), asset)


def from_json(text: bytes, asset: Asset) -> bytes:
    """The line of an event in structured mode. Raises NotAnEvent."""
    try:
        members = _OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnEvent(f"the event is not a JSON object: {error}", mend="send valid JSON") from None
    data = members.pop("data", None)
    encoded = members.pop("data_base64", None)
    if encoded is not None:
        data = encoded
    attributes = {name: _value(name, raw) for name, raw in members.items()}
    return _line(attributes, data, asset)


def attribute(text: bytes, name: str) -> str:
    """An attribute of an event in structured mode that was read already; "" where it has none that is text."""
    raw = _OBJECT.decode(text).get(name)
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str) else ""


def _value(name: str, raw: msgspec.Raw) -> Any:
    value = msgspec.json.decode(raw)
    if value is None or isinstance(value, str | bool | int):
        return value
    raise NotAnEvent(f"the attribute {name} is not text, a whole number or a boolean", mend="put it into data")


def _data(body: bytes, media_type: str) -> msgspec.Raw | None:
    """The data of an event in binary mode, as JSON."""
    if not body:
        return None
    kind = media_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json", "text/json") or kind.endswith("+json"):
        try:
            return msgspec.Raw(bytes(_JSON.decode(body)))
        except (msgspec.DecodeError, RecursionError) as error:
            raise NotAnEvent(f"the data is not JSON: {error}", mend="send valid JSON, or say its type") from None
    try:
        return msgspec.Raw(_encode(body.decode()))
    except UnicodeDecodeError:
        return msgspec.Raw(_encode(base64.b64encode(body).decode()))


def _line(attributes: Attributes, data: msgspec.Raw | None, asset: Asset) -> bytes:
    """An event as it lands in a topic."""
    for name in _REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise NotAnEvent(f"the attribute {name} is missing or empty", mend="see the CloudEvents specification 1.0")
    if attributes["specversion"] != "1.0":
        raise NotAnEvent(f'specversion "{attributes["specversion"]}" is not read here', mend="send version 1.0")
    identity = f"{attributes['source']} {attributes['id']}"
    if asset.options.get("cloudevents"):
        return _envelope(attributes, data, identity)
    return _payload(attributes, data, identity, asset)


def _envelope(attributes: Attributes, data: msgspec.Raw | None, identity: str) -> bytes:
    kept = {name: value for name, value in attributes.items() if name != "time"}
    event = {**kept, "event_id": identity, "event_time": attributes.get("time"), "data": data}
    return on_one_line(_encode(event))


def _payload(attributes: Attributes, data: msgspec.Raw | None, identity: str, asset: Asset) -> bytes:
    if data is None:
        raise NotAnEvent("the event has no data", mend=f"send data, or add cloudevents = true to [assets.{asset.name}]")
    text = on_one_line(bytes(data)).strip()
    if not text.startswith(b"{"):
        return text
    members: Mapping[str, Any] = _OBJECT.decode(text)
    given = {asset.id: identity, asset.event_time: attributes.get("time")}
    added = {name: value for name, value in given.items() if name and value is not None and name not in members}
    if not added:
        return text
    inside = text[1:-1].strip()
    return _encode(added)[:-1] + (b"," + inside if inside else b"") + b"}"
