"""Bringing the file of an older schema to the present one, step by step, inside one transaction.

Rules of this file:
  * a step changes nothing that a log says; what it adds is found in the log.
"""

from __future__ import annotations

from tidemill.stores.sqlite import catalog, versions
from tidemill.stores.sqlite.connection import Connection, Migrations
from tidemill.stores.sqlite.reading import identities
from tidemill.stores.sqlite.schema import EARLIER, SCHEMAS, TRACES, place

__all__ = ["MIGRATIONS"]


def _note_earlier_events(connection: Connection) -> None:
    """To 2: each event of an upsert topic leads to the event whose row it replaced."""
    connection.execute(EARLIER)
    for found in catalog.entries(connection):
        if found.kind == catalog.TOPIC and found.key:
            current: dict[str, int] = {}
            earlier = []
            events = identities(connection, found, found.floor, found.head)
            for offset, (key, is_deleted) in enumerate(events, found.floor + 1):
                before = current.pop(key, 0)
                if before:
                    earlier.append((place(found.number, offset), before))
                if not is_deleted:
                    current[key] = offset
            connection.executemany("insert into earlier (place, before) values (?, ?)", earlier)


def _keep_schemas(connection: Connection) -> None:
    """To 3: each topic has the versions of its schema, as far as they are known: the offsets its columns came at."""
    connection.execute(SCHEMAS)
    for found in catalog.entries(connection):
        if found.kind == catalog.TOPIC:
            for since in sorted({found.floor if not found.at_door else 0, *found.since.values()}):
                columns = [column for column in found.columns if found.since.get(column.name, 0) <= since]
                versions.record(connection, found.number, since, columns)


def _keep_traces(connection: Connection) -> None:
    """To 4: events and dead letters have the trace that their sender named; of those before, none is known."""
    connection.execute(TRACES)
    connection.execute("alter table dead add column traceparent text not null default ''")


MIGRATIONS: Migrations = {1: _note_earlier_events, 2: _keep_schemas, 3: _keep_traces}
"""By schema number, the step that leads to the next one."""
