"""Topics: what an append does to the ids, the keys and the blocks, inside one transaction.

Rules of this file (rules 5 and 6 of the semantics):
  * the same id inside the dedup window with the same content is a duplicate; with other content it is parked;
  * content is the payload without `DELIVERY` fields; field order and blanks do not matter;
  * on upsert topics a stale version gets no offset and counts as a duplicate, an equal version lets the later win;
  * decisions are made once, here; nothing that reads the log decides again.

Theory of operation. Most batches bring only new ids: all of them are inserted at once, and if as many rows were
inserted as there are ids, there is nothing to decide. Otherwise the insert is undone (a savepoint) and the events are
decided one after the other. Because an id row holds the offset of its event, "the same content" is asked of the event
itself; only when its block is trimmed does the id keep a hash of the content instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from tidemill.core.ports import Refusal
from tidemill.stores.sqlite import blocks
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import Checked, Contract, Identity
from tidemill.stores.sqlite.schema import place

__all__ = ["DELIVERY", "OTHER_CONTENT", "Landed", "content", "land"]

DELIVERY = frozenset(
    {
        "sentAt",
        "sent_at",
        "receivedAt",
        "received_at",
        "originalTimestamp",
        "correctedTimestamp",
        "corrected_timestamp",
        "corrected_at",
        "correctedAt",
        "headers",
        "attempt",
        "deliveryAttempt",
        "delivery_attempt",
    }
)
"""Fields that say how an event was delivered, not what happened: they do not count as content."""

ORIGINAL, CORRECTED = "original_timestamp", "event_time"
"""An event that keeps its sender's time had its own corrected by when it was sent: only the sender's is content."""

FEW_IDS = 16
"""Up to so many ids are bound one by one; more are handed to SQLite as one JSON list."""

OTHER_CONTENT = "same id, other content"

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def content(line: bytes) -> bytes:
    """A hash of what an event says."""
    event = {name: value for name, value in _decode(line).items() if name not in DELIVERY}
    if ORIGINAL in event:
        event.pop(CORRECTED, None)
    return hashlib.sha256(_encode(event)).digest()


@dataclass(slots=True)
class Landed:
    """What became of a checked batch."""

    accepted: int = 0
    duplicate: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)


def land(connection: Connection, found: Entry, contract: Contract, checked: Checked, now: float) -> Landed:
    """Append what passed the contract to the topic; moves `found.head` and `found.count`."""
    asset = contract.asset
    if contract.is_upsert:
        return _Deciding(connection, found, contract, now).land(checked)
    if asset.id and not _are_new(connection, found, checked.ids, now):
        return _Deciding(connection, found, contract, now).land(checked)
    for payload, _ in checked.pieces:
        _append(connection, found, payload, now)
    return Landed(accepted=checked.count)


def _append(connection: Connection, found: Entry, payload: bytes, now: float) -> int:
    count = blocks.append(connection, found.number, found.head + 1, payload, now)
    found.head += count
    found.count += count
    return count


def _are_new(connection: Connection, found: Entry, ids: list[str], now: float) -> bool:
    """Insert all ids, if none of them is known or comes twice; otherwise nothing is changed."""
    if len(ids) <= 1:
        return _insert(connection, found, ids, now) == len(ids)
    connection.execute("savepoint ids")
    if _insert(connection, found, ids, now) == len(ids):
        connection.execute("release ids")
        return True
    connection.execute("rollback to ids")
    connection.execute("release ids")
    return False


def _insert(connection: Connection, found: Entry, ids: list[str], now: float) -> int:
    """Insert ids for the offsets that follow the head; returns how many were new."""
    first = found.head + 1
    text = msgspec.json.encode(ids) if len(ids) > FEW_IDS else b""
    if not text or b"\\u0000" in text:
        rows = [(found.number, each, offset, now) for offset, each in enumerate(ids, first)]
        statement = "insert or ignore into ids (number, id, offset, at) values (?, ?, ?, ?)"
        return connection.executemany(statement, rows).rowcount if rows else 0
    order = "" if ids == sorted(ids) else "order by value"  # neighbours in the B-tree are written together
    statement = (
        f"insert or ignore into ids (number, id, offset, at) select ?, value, ? + key, ? from json_each(?) {order}"
    )
    return connection.execute(statement, (found.number, first, now, text.decode())).rowcount


@dataclass(slots=True)
class _Known:
    """An id that is taken by the event at `offset`; of this batch where its `line` is known from the start."""

    offset: int
    at: float
    content: bytes | None = None
    line: bytes | None = None


class _Deciding:
    """Decides event by event."""

    def __init__(self, connection: Connection, found: Entry, contract: Contract, now: float) -> None:
        self.connection = connection
        self.found = found
        self.contract = contract
        self.has_ids = bool(contract.asset.id)
        self.now = now
        self.result = Landed()
        self.kept: list[bytes] = []
        self.ids: dict[str, _Known] = {}
        self.new_ids: list[str] = []
        self.keys: dict[str, tuple[Any, bool, int]] = {}
        self.earlier: list[tuple[int, int]] = []
        self.touched: dict[str, tuple[int, bool, Any]] = {}

    def land(self, checked: Checked) -> Landed:
        """Decide all events, then append what is left of them."""
        lines = checked.lines()
        identities = self._identities(lines, checked.ids)
        self._load_ids([each.id for each in identities if isinstance(each, Identity)])
        self._load_keys([each.key for each in identities if isinstance(each, Identity)])
        for index, (line, identity) in enumerate(zip(lines, identities, strict=True)):
            if isinstance(identity, Refusal):
                self._park(checked.place(index), identity.reason, identity.payload, identity.column)
            else:
                self._decide(checked.place(index), line, identity)
        self._write()
        return self.result

    def _identities(self, lines: list[bytes], ids: list[str]) -> list[Identity | Refusal]:
        if self.contract.is_upsert:
            return list(self.contract.identities(lines))
        return [Identity(each) for each in ids]

    def _park(self, index: int, reason: str, payload: str, column: str) -> None:
        self.result.refusals.append(Refusal(index, reason, payload, column))

    def _repeat(self, index: int, offset: int) -> None:
        self.result.duplicate += 1
        self.result.duplicates.append((index, offset))

    def _decide(self, index: int, line: bytes, identity: Identity) -> None:
        if self.has_ids and (known := self.ids.get(identity.id)) is not None:
            if self._is_same(known, line):
                self._repeat(index, known.offset)
            else:
                self._park(index, OTHER_CONTENT, line.decode(), self.contract.asset.id)
            return
        if self.contract.is_upsert and not self._is_newest(index, line, identity):
            return
        self.kept.append(line)
        if self.has_ids:
            self.new_ids.append(identity.id)
            self.ids[identity.id] = _Known(self.found.head + len(self.kept), self.now, line=line)

    def _is_same(self, known: _Known, line: bytes) -> bool:
        if known.line is None and known.content is None:
            found = blocks.lines_at(self.connection, self.found.number, [known.offset])
            known.line = found.get(known.offset)
        if known.line is not None:
            return known.line == line or content(known.line) == content(line)
        return known.content == content(line)

    def _is_newest(self, index: int, line: bytes, identity: Identity) -> bool:
        """Whether this event becomes the newest of its key."""
        current = self.keys.get(identity.key)
        version = self.contract.comparable(identity.version)
        if current is not None and self.contract.asset.version:
            try:
                is_stale = version < current[0]
            except TypeError:
                self._park(
                    index, "the version is of another type than before", line.decode(), self.contract.asset.version
                )
                return False
            if is_stale:
                self._repeat(index, 0)
                return False
        was_there = current is not None and not current[1]
        self.found.count += (not identity.deleted) - was_there
        offset = self.found.head + len(self.kept) + 1
        if current is not None and was_there:
            self.earlier.append((place(self.found.number, offset), current[2]))
        self.keys[identity.key] = (version, identity.deleted, offset)
        self.touched[identity.key] = (offset, identity.deleted, identity.version)
        return True

    def _load_ids(self, ids: Sequence[str]) -> None:
        """What is known of these ids inside the window; expired ones are forgotten."""
        if not self.has_ids:
            return
        oldest = self.now - self.contract.asset.dedup_window_seconds
        rows = _matching(self.connection, self.found.number, "id, offset, at, content from ids", "id", ids)
        expired = []
        for id_, offset, at, hashed in rows:
            if at < oldest:
                expired.append((self.found.number, id_))
            else:
                self.ids[id_] = _Known(offset, at, hashed)
        self.connection.executemany("delete from ids where number = ? and id = ?", expired)
        self._load_lines()

    def _load_lines(self) -> None:
        """Fetch the events that own these ids, block by block."""
        offsets = [known.offset for known in self.ids.values() if known.content is None]
        found = blocks.lines_at(self.connection, self.found.number, offsets)
        for known in self.ids.values():
            known.line = found.get(known.offset)

    def _load_keys(self, keys: Sequence[str]) -> None:
        if not self.contract.is_upsert:
            return
        rows = _matching(self.connection, self.found.number, "key, deleted, version, offset from keys", "key", keys)
        for key, deleted, version, offset in rows:
            self.keys[key] = (self.contract.stored_version(version), bool(deleted), offset)

    def _write(self) -> None:
        """Write ids, keys and the block of what was kept."""
        if self.new_ids and _insert(self.connection, self.found, self.new_ids, self.now) != len(self.new_ids):
            raise AssertionError("an id was decided to be new and is not")
        if not self.kept:
            return
        statement = "insert or replace into keys (number, key, offset, deleted, version) values (?, ?, ?, ?, ?)"
        rows = [
            (self.found.number, key, offset, deleted, msgspec.json.encode(version).decode())
            for key, (offset, deleted, version) in self.touched.items()
        ]
        if rows:
            self.connection.executemany(statement, rows)
        if self.earlier:
            self.connection.executemany("insert into earlier (place, before) values (?, ?)", self.earlier)
        count = self.found.count
        self.result.accepted = _append(self.connection, self.found, b"\n".join(self.kept), self.now)
        if self.contract.is_upsert:
            self.found.count = count


def _matching(connection: Connection, number: int, wanted: str, column: str, values: Sequence[str]) -> list[Any]:
    """The rows of a side table for these ids or keys."""
    plain = [value for value in values if "\0" not in value]
    odd = [value for value in values if "\0" in value]
    select = f"select {wanted} where number = ? and {column}"
    text = msgspec.json.encode(plain).decode()
    rows = connection.all(f"{select} in (select value from json_each(?))", (number, text))
    for value in odd:
        rows += connection.all(f"{select} = ?", (number, value))
    return rows
