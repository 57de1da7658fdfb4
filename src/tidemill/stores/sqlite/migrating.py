"""Bringing the file of an older schema to the present one, step by step, inside one transaction.

Rules of this file:
  * a step changes nothing that a log says; what it adds is found in the log.
"""

from __future__ import annotations

from tidemill.stores.sqlite import catalog
from tidemill.stores.sqlite.connection import Connection, Migrations
from tidemill.stores.sqlite.reading import identities
from tidemill.stores.sqlite.schema import EARLIER, place

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


MIGRATIONS: Migrations = {1: _note_earlier_events}
"""By schema number, the step that leads to the next one."""
