"""The records people read: runs, notes, and events parked at the door (port `Ledger`).

Rules of this file:
  * a run row is a report: it says what was seen, never what was committed (rule 9);
  * one call is one commit, however many records it brings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from tidemill.core.ports import Refusal, RunRecord
from tidemill.stores.sqlite.connection import Connection

__all__ = [
    "DISCARDED",
    "DOOR",
    "PARKED",
    "REPLAYED",
    "change_letter",
    "dead",
    "letter_id",
    "note",
    "noted",
    "notes",
    "park",
    "record",
    "runs",
]

DOOR = "door"
"""The stage of a dead letter that the door refused."""

PARKED, REPLAYED, DISCARDED = "parked", "replayed", "discarded"
"""What has become of a dead letter."""

_encode = msgspec.json.Encoder().encode
_decode_run = msgspec.json.Decoder(RunRecord).decode


def record(connection: Connection, reports: Sequence[RunRecord]) -> None:
    """Insert or replace run reports."""
    connection.executemany(
        "insert into runs (run, job, state, started_at, body) values (?, ?, ?, ?, ?) on conflict (run) do update set "
        "job = excluded.job, state = excluded.state, started_at = excluded.started_at, body = excluded.body",
        [(each.run, each.job, each.state, each.started_at, _encode(each).decode()) for each in reports],
    )


def runs(connection: Connection, *, job: str, state: str, run: str, limit: int) -> list[RunRecord]:
    """Run reports, newest first; `limit` 0 or less is no limit."""
    wanted = {"job": job, "state": state, "run": run}
    given = {name: value for name, value in wanted.items() if value}
    where = " and ".join(f"{name} = ?" for name in given) or "true"
    rows = connection.all(
        f"select body from runs where {where} order by started_at desc, sequence desc limit ?",
        [*given.values(), limit if limit > 0 else -1],
    )
    return [_decode_run(body) for (body,) in rows]


def note(connection: Connection, topic: str, name: str, value: Any) -> None:
    """Keep or forget a JSON value."""
    if value is None:
        connection.execute("delete from notes where topic = ? and name = ?", (topic, name))
    else:
        connection.execute(
            "insert or replace into notes (topic, name, value) values (?, ?, ?)",
            (topic, name, _encode(value).decode()),
        )


def notes(connection: Connection, topic: str) -> dict[str, Any]:
    """All values under a topic, by name."""
    rows = connection.all("select name, value from notes where topic = ? order by name", (topic,))
    return {name: msgspec.json.decode(value) for name, value in rows}


def noted(connection: Connection, topic: str, name: str) -> Any:
    """The value under (topic, name), or None."""
    row = connection.one("select value from notes where topic = ? and name = ?", (topic, name))
    return None if row is None else msgspec.json.decode(row[0])


def park(
    connection: Connection,
    asset: str,
    refusals: Sequence[Refusal],
    traceparents: Sequence[str],
    now: float,
    *,
    keeps_settled: bool = False,
) -> None:
    """Keep events that the door refused, each with the trace that its sender named ("" where none).

    The same event for the same reason again counts one more attempt; with `keeps_settled` what a person has settled stays so.
    """
    state = "state" if keeps_settled else "excluded.state"
    rows = [
        (letter_id(asset, each), asset, "", DOOR, each.reason, each.payload, each.column, now, now, PARKED, traced)
        for each, traced in zip(refusals, traceparents, strict=True)
    ]
    connection.executemany(
        "insert into dead (id, asset, job, stage, reason, payload, column_, attempts, first_at, last_at, state, "
        "traceparent) values (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?) on conflict (id) do update set attempts = attempts + 1, "
        f"last_at = excluded.last_at, state = {state}, "
        "traceparent = coalesce(nullif(excluded.traceparent, ''), traceparent)",
        rows,
    )


def letter_id(asset: str, refusal: Refusal) -> str:
    """The id of the dead letter of an event that an asset refused."""
    told = _encode([asset, refusal.column, refusal.payload])
    return hashlib.sha256(told).hexdigest()[:20]


def change_letter(connection: Connection, letter: str, **values: Any) -> None:
    """Change some columns of a dead letter: `state`, `payload`, `reason`, `attempts`."""
    changes = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"update dead set {changes} where id = ?", (*values.values(), letter))


_DEAD = (
    "id", "asset", "job", "stage", "reason", "payload", "column", "attempts", "first_at", "last_at", "state", "traceparent",
)  # fmt: skip


def dead(connection: Connection, *, asset: str, limit: int) -> list[dict[str, Any]]:
    """Parked events, newest first; `limit` 0 or less is no limit."""
    rows = connection.all(
        "select id, asset, job, stage, reason, payload, column_, attempts, first_at, last_at, state, traceparent from dead "
        f"{'where asset = ?' if asset else ''} order by last_at desc, sequence desc limit ?",
        [*([asset] if asset else []), limit if limit > 0 else -1],
    )
    return [dict(zip(_DEAD, row, strict=True)) for row in rows]
