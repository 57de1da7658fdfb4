"""The versions of a topic's schema: which columns its events have, from which offset on.

Rules of this file:
  * a version begins behind the head at which the shape was given, so that no event ever changes its version;
  * versions are counted from 1 within a generation, and kept as long as the topic; one that no event has is replaced;
  * an event has the columns of its own version: one that was taken away and came back shows the events of both times.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tidemill.core.model import Column
from tidemill.core.schema import SchemaVersion
from tidemill.stores.sqlite.connection import Connection

__all__ = ["kept", "record"]

_decode = msgspec.json.Decoder(list[tuple[str, str, bool]]).decode


def kept(connection: Connection, number: int) -> list[SchemaVersion]:
    """All versions of a topic, the oldest first."""
    rows = connection.all("select version, since, columns from schemas where number = ? order by version", (number,))
    return [
        SchemaVersion(version, since, tuple(Column(*each) for each in _decode(text))) for version, since, text in rows
    ]


def record(connection: Connection, number: int, head: int, columns: Sequence[Column]) -> None:
    """Keep the columns that events behind the head have from now on."""
    known = kept(connection, number)
    last = known[-1] if known else SchemaVersion(0, -1, ())
    if known and last.columns == tuple(columns):
        return
    version = last.version if known and last.since >= head else last.version + 1
    text = msgspec.json.encode([(column.name, column.type, column.required) for column in columns]).decode()
    connection.execute(
        "insert or replace into schemas (number, version, since, columns) values (?, ?, ?, ?)",
        (number, version, head, text),
    )
