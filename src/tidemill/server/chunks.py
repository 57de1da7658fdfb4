"""What a body is: which of the shapes that events come in, and the lines that it becomes.

Rules of this file:
  * headers alone decide the shape, before a byte of the body is read;
  * an event of a CloudEvents batch that is none is refused by itself; a single one refuses its request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidemill.core.model import Asset
from tidemill.core.ports import Refusal
from tidemill.server import cloudevents
from tidemill.server.cloudevents import NotAnEvent
from tidemill.server.lines import counted_lines, members_of, plain_lines
from tidemill.server.refusals import WrongType
from tidemill.server.tracing import HEADER, valid

__all__ = ["Chunk", "Shape", "chunk_of", "shape_of"]

NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
JSON_TYPES = frozenset({"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"})
"""Types whose body is looked at; the last two are what browsers and `curl` send where nobody says anything."""


class Shape(StrEnum):
    """How the events of a body are written."""

    JSON = "JSON"
    LINES = "lines of JSON"
    BINARY = "a CloudEvent, binary"
    STRUCTURED = "a CloudEvent, structured"
    BATCH = "CloudEvents, batch"


@dataclass(slots=True)
class Chunk:
    """Events on their way to a commit: their lines, where each stood, and what was refused before it got there.

    `count` is 0 where nobody counted the lines; `places` None where each stood where it is. `traceparent` is the trace
    that a single CloudEvent names of itself (its extension for distributed tracing).
    """

    lines: bytes = b""
    count: int = 0
    places: list[int] | None = None
    refused: tuple[Refusal, ...] = ()
    traceparent: str = ""


def shape_of(headers: Mapping[str, str]) -> Shape:
    """The shape that the headers announce. Raises WrongType."""
    if cloudevents.is_binary(headers):
        return Shape.BINARY
    said = headers.get("content-type", "")
    media_type = said.partition(";")[0].strip().lower()
    if media_type in NDJSON_TYPES:
        return Shape.LINES
    if media_type == cloudevents.STRUCTURED_TYPE:
        return Shape.STRUCTURED
    if media_type == cloudevents.BATCH_TYPE:
        return Shape.BATCH
    if media_type in JSON_TYPES or media_type.endswith("+json"):
        return Shape.JSON
    raise WrongType(f"a body of type {said} is not read here", mend="send application/json or application/x-ndjson")


def chunk_of(shape: Shape, body: bytes, headers: Mapping[str, str], asset: Asset) -> Chunk:
    """The events of a whole body. Raises UserError where it cannot be read at all."""
    return _READERS[shape](body, headers, asset)


def _binary(body: bytes, headers: Mapping[str, str], asset: Asset) -> Chunk:
    return Chunk(
        cloudevents.from_headers(headers, body, asset), 1, traceparent=valid(headers.get("ce-traceparent", ""))
    )


def _structured(body: bytes, _: Mapping[str, str], asset: Asset) -> Chunk:
    line = cloudevents.from_json(body, asset)
    return Chunk(line, 1, traceparent=valid(cloudevents.attribute(body, HEADER)))


def _batch(body: bytes, _: Mapping[str, str], asset: Asset) -> Chunk:
    lines: list[bytes] = []
    places: list[int] = []
    refused: list[Refusal] = []
    for place, member in enumerate(members_of(body)):
        try:
            lines.append(cloudevents.from_json(member, asset))
            places.append(place)
        except NotAnEvent as error:
            refused.append(Refusal(place, error.message, member.decode(errors="replace")))
    return Chunk(b"\n".join(lines), len(lines), places, tuple(refused))


_READERS: dict[Shape, Callable[[bytes, Mapping[str, str], Asset], Chunk]] = {
    Shape.JSON: lambda body, _headers, _asset: Chunk(*counted_lines(body)),
    Shape.LINES: lambda body, _headers, _asset: Chunk(*plain_lines(body)),
    Shape.BINARY: _binary,
    Shape.STRUCTURED: _structured,
    Shape.BATCH: _batch,
}
