"""The traces that senders say their events belong to (W3C Trace Context), by the offsets of the events.

Rules of this file:
  * a row is written only for a sender that names a trace, in the transaction of its events;
  * it goes when its events go from the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.core.ports import Receipt, Refusal, Sending
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.schema import offset_of, place

__all__ = ["TRACES_MAX", "forget", "keep", "of_refusals", "within"]

TRACES_MAX = 10
"""So many traces are told of one range of events."""

_LOOKED_AT_MAX = 1_000
"""So many rows are looked at for them, where one trace sent many times."""


def keep(connection: Connection, number: int, traceparent: str, receipt: Receipt) -> None:
    """Keep the trace of the events that a receipt accepted; nothing where there is none."""
    if traceparent and receipt.accepted:
        connection.execute(
            "insert into traces (place, count, traceparent) values (?, ?, ?)",
            (place(number, receipt.head - receipt.accepted + 1), receipt.accepted, traceparent),
        )


def of_refusals(sendings: Sequence[Sending], refusals: Sequence[Refusal]) -> list[str]:
    """The trace of each refusal of what many senders sent together, by its place in all of it ("" where none)."""
    if len(sendings) == 1:
        return [sendings[0].traceparent] * len(refusals)
    ends: list[int] = []
    for sending in sendings:
        ends.append((ends[-1] if ends else 0) + sending.count)
    found, number = [], 0
    for refusal in refusals:
        while refusal.index >= ends[number]:
            number += 1
        found.append(sendings[number].traceparent)
    return found


def within(connection: Connection, number: int, from_: int, to: int) -> list[str]:
    """The newest different traces of the events in (from, to], the newest first."""
    rows = connection.execute(
        "select place, count, traceparent from traces where place <= ? and place >= ? order by place desc limit ?",
        (place(number, to), _first(connection, number, from_), _LOOKED_AT_MAX),
    )
    found: dict[str, None] = {}
    for place_, count, traceparent in rows:
        if offset_of(place_) + count - 1 > from_:
            found[traceparent] = None
        if len(found) == TRACES_MAX:
            break
    return list(found)


def _first(connection: Connection, number: int, from_: int) -> int:
    """The place of the row that may reach over the beginning of a range."""
    low = place(number, from_ + 1)
    row = connection.one("select max(place) from traces where place < ? and place >= ?", (low, place(number, 0)))
    return low if row is None or row[0] is None else int(row[0])


def forget(connection: Connection, number: int, below: int) -> None:
    """Forget the traces of the events at or below an offset."""
    connection.execute(
        "delete from traces where place >= ? and place + count - 1 <= ? and place <= ?",
        (place(number, 0), place(number, below), place(number, below)),
    )
