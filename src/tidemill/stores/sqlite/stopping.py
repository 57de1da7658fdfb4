"""Topics that stop at the first event they cannot take (`on_error = "stop"`).

Rules of this file:
  * what a topic waits for is the event that is parked at its door; nothing else is kept about it, so that replaying or
    discarding that event is all that lets the topic go on;
  * of what was sent with such an event nothing is taken: who sent it sends it again, and nothing came twice or out of order;
  * an event that a person has settled stops the topic no more when it is sent again.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.core.errors import Stopped
from tidemill.core.model import Asset
from tidemill.core.ports import Refusal
from tidemill.stores.sqlite import records
from tidemill.stores.sqlite.connection import Connection

__all__ = ["culprit", "error", "stops", "waits_for"]


def stops(asset: Asset) -> bool:
    """Whether the topic stops, where others park an event and go on."""
    return asset.options.get("on_error") == "stop"


def waits_for(connection: Connection, asset: str) -> tuple[str, str] | None:
    """The id of the event that a topic is stopped at, and why it was not taken; None where it goes on."""
    row = connection.one(
        "select id, reason from dead where asset = ? and stage = ? and state = ? order by sequence limit 1",
        (asset, records.DOOR, records.PARKED),
    )
    return None if row is None else (str(row[0]), str(row[1]))


def culprit(connection: Connection, asset: str, refusals: Iterable[Refusal]) -> Refusal | None:
    """The first of these, all of them parked by now, that no person has settled."""
    for refusal in refusals:
        row = connection.one("select state from dead where id = ?", (records.letter_id(asset, refusal),))
        if row is None or row[0] == records.PARKED:
            return refusal
    return None


def error(asset: str, letter: str, reason: str) -> Stopped:
    """What is told to whoever sends to a topic that is stopped."""
    return Stopped(
        f"`{asset}` is stopped at an event that it does not take: {reason}",
        mend=f"nothing of this was taken. See tidemill dead show {letter}; mend it (dead edit) and replay it, or discard it; "
        "then send this again",
    )
