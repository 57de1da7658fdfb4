"""Upkeep of the file: moving the write-ahead log into it, trimming topics, forgetting old ids, copying it.

Rules of this file:
  * nothing here is on the way of an append: a checkpoint runs in its own thread on its own connection, and only where
    it cannot keep up (`WAL_BYTES_MAX`) does one append wait for it;
  * trimming removes whole blocks and never a current row: of an upsert topic only blocks whose every event is
    outlived; what a kept id needs to recognise its event is kept as a hash of the content;
  * retention goes by when a block was recorded, in the order of the log: a clock that was set back makes it later, not
    earlier.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from tidemill.core.errors import OperatorError
from tidemill.stores.sqlite import blocks, catalog, topics, traces
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import WAL_BYTES_KEPT, Connection, explained
from tidemill.stores.sqlite.contract import id_in
from tidemill.stores.sqlite.schema import offset_of, place

__all__ = [
    "CHECKPOINT_BYTES",
    "WAL_BYTES_MAX",
    "Checkpointer",
    "Sweeper",
    "copy",
    "due",
    "expire",
    "recorded_at",
    "trim",
]

CHECKPOINT_BYTES = WAL_BYTES_KEPT
"""A write-ahead log longer than this is moved into the file."""

WAL_BYTES_MAX = 128 << 20
"""A write-ahead log longer than this makes the next append wait for the checkpoint."""

SWEEP_ROWS = 1_000
"""How many ids an append looks through, at least, while expired ones are being forgotten."""


class Checkpointer:
    """A thread that keeps the write-ahead log short."""

    def __init__(self, path: Path, connect: Callable[[], Connection]) -> None:
        self._wal = f"{path}-wal"
        self._connect = connect
        self._wake = threading.Event()
        self._one_at_a_time = threading.Lock()
        self._is_ending = False
        self._thread: threading.Thread | None = None

    def after_commit(self, writer: Connection) -> None:
        """Wake the thread where the log is long; do its work here where it is far too long. Called with the turn."""
        size = self._size()
        if size <= CHECKPOINT_BYTES or self._is_ending:
            return
        if size > WAL_BYTES_MAX:
            self._checkpoint(writer)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)
            self._thread.start()
        self._wake.set()

    def _size(self) -> int:
        try:
            return os.stat(self._wal).st_size  # noqa: PTH116 - asked at every commit, and a path object costs as much again
        except OSError:
            return 0

    def _run(self) -> None:
        connection = self._connect()
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._is_ending:
                    return
                self._checkpoint(connection)
        finally:
            connection.close()

    def _checkpoint(self, connection: Connection) -> None:
        with self._one_at_a_time, contextlib.suppress(OperatorError):
            connection.execute("pragma wal_checkpoint(passive)")  # a full disk: the next commit wakes us again

    def end(self) -> None:
        """Stop the thread."""
        self._is_ending = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()


def trim(connection: Connection, found: Entry, below: int) -> int:
    """Forget what ended at or below an offset; returns how many images (events, versions) that were."""
    if found.kind in ("", catalog.ROWS):
        return _trim_images(connection, found, below)
    if found.kind == catalog.VERSION:
        return _trim_versions(connection, found, below)
    return _trim_blocks(connection, found, min(below, found.head))


def expire(connection: Connection, found: Entry, below: int) -> int:
    """Forget what was recorded at or below an offset; returns how many events that were (port `Store.expire`).

    Of an upsert topic an event stays that was replaced after `below`: who reads on from there is told the row it was.
    """
    if found.kind != catalog.TOPIC or found.key is None:
        return trim(connection, found, below)
    first = connection.one(
        "select min(before) from earlier where place > ? and place <= ?",
        (place(found.number, below), place(found.number, found.head)),
    )[0]
    return trim(connection, found, below if first is None else min(below, first - 1))


def due(connection: Connection, found: Entry, moment: float, most: int) -> int:
    """The offset up to which everything was recorded at or before a moment: of about the `most` oldest events there are."""
    rows = connection.execute(
        "select place, count, at from blocks where place > ? and place <= ? order by place",
        (place(found.number, found.floor), place(found.number, found.head)),
    )
    last = found.floor
    for place_, count, at in rows:
        if at > moment or last - found.floor >= most:
            break
        last = offset_of(place_) + count - 1
    return last


def recorded_at(connection: Connection, found: Entry, offset: int) -> float | None:
    """When an event was recorded (seconds since the epoch); None where it is gone or has not come."""
    row = connection.one(
        "select place, count, at from blocks where place <= ? order by place desc limit 1",
        (place(found.number, offset),),
    )
    if row is None or row[0] < place(found.number, 0) or offset_of(row[0]) + row[1] <= offset:
        return None
    return float(row[2])


def _trim_images(connection: Connection, found: Entry, below: int) -> int:
    floor = min(below, found.head)
    if floor <= found.floor:
        return 0
    found.floor = floor
    return connection.execute("delete from images where number = ? and until <= ?", (found.number, floor)).rowcount


def _trim_versions(connection: Connection, found: Entry, below: int) -> int:
    last = min(below, found.head - 1)
    low, high = place(found.number, 0), place(found.number, max(last, 0))
    gone = connection.execute("delete from versions where place > ? and place <= ?", (low, high)).rowcount
    found.count -= gone
    found.floor = max(found.floor, last)
    return gone


def _trim_blocks(connection: Connection, found: Entry, below: int) -> int:
    """Drop whole blocks from the oldest on, up to the first that is still needed."""
    rows = connection.all(
        "select place, count from blocks where place > ? and place <= ? order by place",
        (place(found.number, 0), place(found.number, below)),
    )
    gone = 0
    for place_, count in rows:
        last = offset_of(place_) + count - 1
        if last > below or _has_current(connection, found, offset_of(place_), last):
            break
        _keep_contents(connection, found, offset_of(place_), last)
        connection.execute("delete from blocks where place = ?", (place_,))
        gone += count
        found.floor = last
    if found.key is None:
        found.count -= gone
    low, high = place(found.number, 0), place(found.number, found.floor)
    connection.execute("delete from earlier where place > ? and place <= ?", (low, high))
    traces.forget(connection, found.number, found.floor)
    return gone


def _has_current(connection: Connection, found: Entry, first: int, last: int) -> bool:
    if found.key is None:
        return False
    wanted = "number = ? and offset between ? and ? and deleted = 0"
    return connection.one(f"select 1 from keys where {wanted}", (found.number, first, last)) is not None


def _keep_contents(connection: Connection, found: Entry, first: int, last: int) -> None:
    """Let the ids of a block that goes keep what its events said."""
    if not found.id:
        return
    lines = blocks.lines_at(connection, found.number, list(range(first, last + 1)))
    connection.executemany(
        "update ids set content = ? where number = ? and id = ? and offset = ?",
        [(topics.content(line), found.number, id_in(line, found.id), offset) for offset, line in lines.items()],
    )


class Sweeper:
    """Forgets ids that are older than the dedup window, a few with each append.

    A pass over all ids begins a quarter of a window after the last one ended. How far a pass has come is not kept: a
    restart begins it anew.
    """

    def __init__(self) -> None:
        self._after: dict[int, str] = {}

    def sweep(self, connection: Connection, found: Entry, window_seconds: float, now: float, count: int) -> None:
        """Look through some more ids, in the transaction of an append of `count` events."""
        if not found.swept_at:
            found.swept_at = now
        if found.number not in self._after:
            if now - found.swept_at < window_seconds / 4:
                return
            self._after[found.number] = ""
        limit = max(SWEEP_ROWS, 2 * count)
        rows = connection.all(
            "select id, at from ids where number = ? and id > ? order by id limit ?",
            (found.number, self._after[found.number], limit),
        )
        old = [(found.number, id_) for id_, at in rows if at < now - window_seconds]
        connection.executemany("delete from ids where number = ? and id = ?", old)
        if len(rows) == limit:
            self._after[found.number] = rows[-1][0]
        else:
            del self._after[found.number]
            found.swept_at = now


def copy(source: Path, target: Path) -> None:
    """Copy a live ledger with SQLite's backup: what arrives is one consistent moment of it, or nothing."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    live, twin = sqlite3.connect(source, timeout=30), sqlite3.connect(part)
    try:
        live.backup(twin)
    except sqlite3.Error as error:
        raise explained(error, target) from error
    finally:
        live.close()
        twin.close()
    part.replace(target)
