"""Blocks of events: how the log of a topic lies in the file, and how ranges of it are read.

Rules of this file:
  * one transaction appends one or more whole blocks; a block is never changed, only trimmed away;
  * a block holds at most about `BLOCK_BYTES` of lines, so that one event deep inside is found by reading little.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.schema import offset_of, place

__all__ = ["BLOCK_BYTES", "append", "lines_at", "offset_before", "payloads"]

BLOCK_BYTES = 64 << 10
"""Lines are packed into blocks of about this size."""

COMPRESS_ABOVE = 8 << 10
"""Blocks longer than this are stored compressed (LZ4: the disk is slower than the compression)."""


def append(connection: Connection, number: int, first: int, payload: bytes, at: float) -> int:
    """Append lines as blocks, beginning at offset `first`; returns how many events they are."""
    rows = []
    start, offset, end = 0, first, len(payload)
    while start < end:
        cut = _cut(payload, start, end)
        count = payload.count(b"\n", start, cut) + 1
        rows.append((place(number, offset), count, cut - start, *_packed(payload[start:cut]), at))
        offset += count
        start = cut + 1
    statement = "insert into blocks (place, count, bytes, codec, payload, at) values (?, ?, ?, ?, ?, ?)"
    if len(rows) == 1:
        connection.execute(statement, rows[0])
    else:
        connection.executemany(statement, rows)
    return offset - first


def offset_before(connection: Connection, number: int, head: int, at: float) -> int:
    """The offset of the last event that arrived before a time (seconds); events of one block arrived together."""
    row = connection.one(
        "select min(place) from blocks where place between ? and ? and at >= ?",
        (place(number, 0), place(number, head), at),
    )
    return head if row is None or row[0] is None else offset_of(row[0]) - 1


def _cut(payload: bytes, start: int, end: int) -> int:
    """Where the block that begins at `start` ends: at a line break, or at the end."""
    if end - start <= BLOCK_BYTES:
        return end
    cut = payload.rfind(b"\n", start, start + BLOCK_BYTES)
    if cut < 0:
        cut = payload.find(b"\n", start + BLOCK_BYTES)
    return end if cut < 0 else cut


def _packed(payload: bytes) -> tuple[str, bytes]:
    if len(payload) > COMPRESS_ABOVE:
        packed: bytes = pa.compress(payload, codec="lz4", asbytes=True)
        if len(packed) < len(payload) * 0.9:
            return "lz4", packed
    return "", payload


def unpacked(codec: str, size: int, payload: bytes) -> bytes:
    """The lines of a block as they were appended."""
    if not codec:
        return payload
    found: bytes = pa.decompress(payload, decompressed_size=size, codec=codec, asbytes=True)
    return found


def payloads(connection: Connection, number: int, from_: int, to: int) -> Iterator[tuple[int, int, bytes]]:
    """The events of (from_, to], block by block: first offset, count, lines."""
    if to <= from_:
        return
    low = place(number, from_ + 1)
    rows = connection.execute(
        "select place, count, bytes, codec, payload from blocks where place <= ? and place >= "
        "coalesce((select max(place) from blocks where place <= ?), ?) order by place",
        (place(number, to), low, low),
    )
    for place_, count, size, codec, packed in rows:
        first = offset_of(place_)
        if place_ < place(number, 0) or first + count <= from_ + 1:
            continue
        lines = unpacked(codec, size, packed)
        skip = max(0, from_ + 1 - first)
        keep = min(count, to - first + 1)
        if skip or keep < count:
            lines = b"\n".join(lines.split(b"\n")[skip:keep])
        yield first + skip, keep - skip, lines


def lines_at(connection: Connection, number: int, offsets: list[int]) -> dict[int, bytes]:
    """The stored lines of these offsets; trimmed ones are absent."""
    found: dict[int, bytes] = {}
    wanted = sorted(set(offsets))
    at = 0
    while at < len(wanted):
        row = connection.one(
            "select place, count, bytes, codec, payload from blocks where place <= ? order by place desc limit 1",
            (place(number, wanted[at]),),
        )
        if row is None or row[0] < place(number, 0) or offset_of(row[0]) + row[1] <= wanted[at]:
            at += 1
            continue
        first, lines = offset_of(row[0]), unpacked(row[3], row[2], row[4]).split(b"\n")
        while at < len(wanted) and wanted[at] < first + row[1]:
            found[wanted[at]] = lines[wanted[at] - first]
            at += 1
    return found
