"""The tables of the ledger file, and the numbers they are addressed with.

Rules of this file:
  * one file, one schema number (`user_version`): a newer file is refused, an older one is migrated step by step;
  * an asset is known to the other tables by its `number`, so that a row of theirs stays small;
  * what belongs to one asset and one offset has the *place* `number * 2**40 + offset` as its row id: one B-tree, no
    second index, and the rows of an asset lie together in the order of its log.

Theory of operation. A commit costs what it touches: a page of the B-tree of the blocks, one of the assets, one of the
marks. Therefore the log of a topic is kept in blocks (many events, one row), and everything else beside it is kept
only where the door needs it to decide: `ids` (which event has this id, inside the dedup window) and `keys` (which
event is the newest of this key). Both point into the log by offset, so what they say can always be checked there.
"""

from __future__ import annotations

__all__ = [
    "APPLICATION_ID",
    "EARLIER",
    "OVERLAY",
    "SCHEMA",
    "SCHEMAS",
    "SCHEMA_VERSION",
    "TRACES",
    "offset_of",
    "place",
]

APPLICATION_ID = 0x7469646D
"""`tidm`: marks the file as ours in its header."""

SCHEMA_VERSION = 4
"""The schema that this code writes (`PRAGMA user_version`)."""

_OFFSET_BITS = 40


def place(number: int, offset: int) -> int:
    """The row id of an offset of an asset."""
    return (number << _OFFSET_BITS) | offset


def offset_of(place_: int) -> int:
    """The offset that a row id stands for."""
    return place_ & ((1 << _OFFSET_BITS) - 1)


EARLIER = "create table earlier (place integer primary key, before integer not null)"

SCHEMAS = """create table schemas (
        number integer not null, version integer not null, since integer not null, columns text not null,
        primary key (number, version)) without rowid"""

TRACES = "create table traces (place integer primary key, count integer not null, traceparent text not null)"

SCHEMA = (
    "create table meta (name text primary key, value integer not null) without rowid",
    "insert into meta values ('epoch', 0)",
    # `kind`: '' (nothing written yet), topic, version or rows. `floor`: history at or below it is gone.
    # `at_door`: events came through the door, so the columns may only widen (rule 6). `id`: the column of their ids,
    # `swept_at`: when the ids were last looked through for expired ones. `marked`: the marker offset is counted (1), or
    # heads are given from elsewhere (2, a mirror).
    """create table assets (
        number integer primary key, asset text not null unique, kind text not null default '',
        head integer not null default 0, generation integer not null default 1, count integer not null default 0,
        floor integer not null default 0, at_door integer not null default 0,
        columns text not null default '[]', key text, id text not null default '', swept_at real not null default 0,
        marked integer not null default 0)""",
    # One block of NDJSON lines: place of its first event, how many, when it arrived; `codec` '' (as it is) or 'lz4'.
    """create table blocks (
        place integer primary key, count integer not null, bytes integer not null, codec text not null,
        at real not null, payload blob not null)""",
    # `content`: the hash of the event's content, filled only when its block is trimmed away.
    """create table ids (
        number integer not null, id text not null, offset integer not null, at real not null, content blob,
        primary key (number, id)) without rowid""",
    """create table keys (
        number integer not null, key text not null, offset integer not null, deleted integer not null,
        version text not null, primary key (number, key)) without rowid""",
    # Of an event of an upsert topic that replaces a row or deletes it: the offset of the event that the row was.
    EARLIER,
    # The columns of a topic's events after the offset `since`, up to the next version.
    SCHEMAS,
    # The trace that a sender said its events belong to: place of the first of them, how many.
    TRACES,
    "create table versions (place integer primary key, version text not null, at real not null)",
    # Rows of internal assets with their history: an image is current from `from_` until `until`.
    """create table images (
        number integer not null, rid text not null, from_ integer not null, until integer not null,
        parent text, payload blob not null, primary key (number, rid, from_)) without rowid""",
    "create index images_by_parent on images (number, parent) where until = 9223372036854775807",
    """create table marks (
        asset text not null, source text not null, mark text not null, primary key (asset, source)) without rowid""",
    """create table progress (
        job text primary key, version text not null, run text not null, body text not null) without rowid""",
    """create table runs (
        sequence integer primary key, run text not null unique, job text not null, state text not null,
        started_at real not null, body text not null)""",
    "create index runs_by_job on runs (job, started_at)",
    "create index runs_by_state on runs (state, started_at)",
    "create index runs_by_time on runs (started_at)",
    """create table notes (
        topic text not null, name text not null, value text not null, primary key (topic, name)) without rowid""",
    """create table dead (
        sequence integer primary key, id text not null unique, asset text not null, job text not null,
        stage text not null, reason text not null, payload text not null, column_ text not null,
        attempts integer not null, first_at real not null, last_at real not null, state text not null,
        traceparent text not null default '')""",
    "create index dead_by_time on dead (last_at)",
    "create index dead_by_asset on dead (asset, last_at)",
)

OVERLAY = (
    "create temp table if not exists assets as select * from main.assets where false",
    "create temp table if not exists images as select * from main.images where false",
)
"""Where a snapshot transaction keeps its own writes until it commits."""
